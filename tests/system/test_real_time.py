"""A CPU that a real-time task holds fails, with its reason, and stops neither the start nor scrapes nor the exit."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab.exporter import Exporter, exporter
from lab.proc import scrape_until, wait_until
from lab.scrape import Scrape
from tests.support.system.hog import hog
from tests.support.tools import missing

CPUS = sorted(os.sched_getaffinity(0))
HELD = CPUS[-1]

NEVER_LATE = {("timeout",): 0, ("error",): 0}
"""A visit is given up after half a second: a sample, which visits a CPU twice at most, never reaches its own limit."""

REASON = f"CPU {HELD} failed: a real-time task is monopolising this CPU"

pytestmark = [pytest.mark.alone, pytest.mark.skipif(len(CPUS) == 1, reason="the only CPU cannot be held")]


@pytest.fixture(autouse=True)
def _elsewhere() -> Iterator[None]:
    """The test itself, and the exporter that it starts, run where no task holds a CPU."""
    os.sched_setaffinity(0, set(CPUS[:-1]))
    yield
    os.sched_setaffinity(0, set(CPUS))


@pytest.fixture
def holding() -> Iterator[ExitStack]:
    """The last CPU is held until this is closed."""
    with ExitStack() as stack:
        try:
            stack.enter_context(hog(HELD))
        except PermissionError as error:
            missing(str(error))
        yield stack


def assert_in_time(scrape: Scrape) -> None:
    """It has a sample, and none was late so far."""
    assert scrape.value("kvm_exporter_sample_success") == 1
    assert scrape.values("kvm_exporter_sample_failures_total", "cause") == NEVER_LATE


def scrape_until_failed(running: Exporter) -> Scrape:
    """The first scrape that could not read the CPU; those before it are in time as well.

    The kernel lets others run for a twentieth of each second, and then many scrapes in a row do reach the CPU.
    """

    def failed(scrape: Scrape) -> bool:
        assert_in_time(scrape)
        return scrape.value("kvm_cpus", state="failed") > 0

    return scrape_until(running.scrape, failed)


def test_the_start_does_not_wait_for_a_held_cpu(holding: ExitStack) -> None:
    """An exporter that starts while a CPU is held has a sample in time."""
    del holding
    with exporter() as running:
        assert_in_time(running.scrape())


def test_a_held_cpu_fails_until_it_is_free_again(holding: ExitStack) -> None:
    """Scrapes go on without it, its reason is shown, and when it is free it is sampled as before."""
    with exporter("--sample.max-age=1ms") as running:
        before = scrape_until_failed(running)
        assert before.values("kvm_cpus", "state") == {
            ("sampled",): len(CPUS) - 1,
            ("retained",): 0,
            ("skipped",): 0,
            ("failed",): 1,
        }
        assert str(HELD) not in {cpu for cpu, _ in before.values("kvm_cpu_register", "cpu", "register")}
        holding.close()
        after = scrape_until(running.scrape, lambda scrape: scrape.value("kvm_cpus", state="failed") == 0)
        assert after.value("kvm_cpus", state="sampled") == len(CPUS)
        assert after.value("kvm_cpus_divergent") == 0


def test_the_page_says_what_holds_the_cpu(holding: ExitStack) -> None:
    """A person who looks is told which CPU, and why."""
    del holding
    with exporter("--sample.max-age=1ms") as running:
        wait_until(lambda: REASON in running.get("/"))


def test_the_exit_does_not_wait_for_a_held_cpu(holding: ExitStack) -> None:
    """SIGTERM ends an exporter whose reading thread has just been stuck, while the CPU is still held."""
    del holding
    with exporter("--sample.max-age=1ms") as running:
        scrape_until_failed(running)
        assert running.stop() == 0
