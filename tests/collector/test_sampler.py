"""kvm_exporter.collector.sampler: when a sample is taken, how long a scrape waits, what is served after a failure."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from kvm_exporter.collector.observer import Observation
from kvm_exporter.collector.sampler import Limits, Published, Sampler
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.errors import ReadError, UnavailableError
from kvm_exporter.kvm.drift import changes
from kvm_exporter.kvm.sample import Sample
from lab.live import LiveMachine, live_machine
from lab.patience import NEVER
from lab.readers import kvm_rows, reader
from tests.support.rooms.loop import in_loop

DEFAULT, REDUCED = 0x0100007B, 0x0100003B
NONE = {"start": 0, "age": 0, "signal": 0, "hotplug": 0}


def sampler(
    machine: LiveMachine,
    *,
    max_age: float = 60.0,
    timeout: float = NEVER,
    published: Published = lambda _before, _now: None,
    change: Callable[[Sample], Sample] = lambda sample: sample,
) -> Sampler:
    """Return a sampler of a machine; ``change`` is applied to every sample."""

    def observe(last: Sample | None) -> Observation:
        sample = change(sweep(machine, CpuSelection(), last))
        return Observation(sample, changes=changes(last, sample) if last is not None else {})

    return Sampler(machine, observe, Limits(max_age, timeout), published)


def served(observation: Observation | None) -> int | None:
    """Return EAX of the common leaves in an observation."""
    kvm = observation.sample.common.kvm if observation is not None else None
    return kvm.eax if kvm is not None else None


def offer(machine: LiveMachine, eax: int) -> None:
    """Set EAX of every CPU from now on."""
    machine.cpus = dict.fromkeys(machine.cpus, reader(kvm_rows(eax)))


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the level and the message of each log record."""
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


# What triggers a sample.


@in_loop
async def test_the_first_scrape_looks_and_the_next_is_served_the_same() -> None:
    """The first scrape takes a sample; a second one is served the same sample without reading the machine."""
    machine = live_machine(DEFAULT)
    keeper = sampler(machine)
    first = await keeper.current(NEVER)
    assert await keeper.current(NEVER) is first
    assert (served(first), machine.readings, keeper.tally.samples) == (DEFAULT, 1, NONE | {"start": 1})
    assert keeper.tally.success


def older(seconds: float) -> Callable[[Sample], Sample]:
    """Return a function that makes samples older by CLOCK_BOOTTIME."""
    return lambda sample: replace(sample, boottime=sample.boottime - seconds)


def other_wall_clock(seconds: float) -> Callable[[Sample], Sample]:
    """Return a function that makes samples older by the wall clock."""
    return lambda sample: replace(sample, timestamp=sample.timestamp - seconds)


@pytest.mark.parametrize(
    ("max_age", "change", "due"),
    [
        (60, older(0), False),
        (60, older(59), False),
        (60, older(61), True),
        (60, other_wall_clock(1e6), False),
        (0, older(1e6), False),
    ],
    ids=["young", "nearly", "old", "clock was set", "0 is never"],
)
@in_loop
async def test_age_is_time_since_boot(max_age: float, change: Callable[[Sample], Sample], *, due: bool) -> None:
    """A sample that exceeds the maximum age by CLOCK_BOOTTIME, which includes time in suspend, is taken again."""
    keeper = sampler(live_machine(DEFAULT), max_age=max_age, change=change)
    await keeper.current(NEVER)
    await keeper.current(NEVER)
    assert keeper.tally.samples == NONE | {"start": 1, "age": int(due)}


@in_loop
async def test_samples_carry_the_time_since_boot() -> None:
    """A sample's boottime is CLOCK_BOOTTIME at the start of its sweep."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    observation = await sampler(live_machine(DEFAULT)).current(NEVER)
    assert observation is not None
    assert before <= observation.sample.boottime <= time.clock_gettime(time.CLOCK_BOOTTIME)


@in_loop
async def test_cpus_that_come_and_go_are_seen_at_the_next_scrape() -> None:
    """A change of the online CPUs triggers one sample, however recent the last one is."""
    machine = live_machine(DEFAULT, DEFAULT)
    keeper = sampler(machine)
    counts = []
    for cpus in ((0, 1), (0, 1, 2), (0, 1, 2), (0, 2)):
        machine.cpus = dict.fromkeys(cpus, reader(kvm_rows(DEFAULT)))
        observation = await keeper.current(NEVER)
        assert observation is not None
        counts.append((observation.sample.online, keeper.tally.samples["hotplug"]))
    assert counts == [(2, 0), (3, 1), (3, 1), (2, 2)]


@in_loop
async def test_a_signal_makes_a_sample_due() -> None:
    """SIGHUP triggers a sample, however recent the last one is."""
    machine = live_machine(DEFAULT)
    keeper = sampler(machine)
    await keeper.current(NEVER)
    offer(machine, REDUCED)
    assert served(await keeper.again("signal")) == REDUCED
    assert keeper.tally.samples == NONE | {"start": 1, "signal": 1}


@in_loop
async def test_a_signal_during_a_reading_reads_again_after_it() -> None:
    """After a signal during a reading a second sample is taken, because the first may be older than the signal."""
    machine = live_machine(DEFAULT)
    keeper = sampler(machine)
    with machine.shut():
        scrape = asyncio.create_task(keeper.current(NEVER))
        await asyncio.sleep(0)
        signalled = asyncio.create_task(keeper.again("signal"))
        await asyncio.sleep(0)
    assert served(await scrape) == served(await signalled) == DEFAULT
    assert (machine.readings, keeper.tally.samples) == (2, NONE | {"start": 1, "signal": 1})


@in_loop
async def test_signals_during_a_reading_share_the_next() -> None:
    """Several signals during one reading cause one further sample, and all of them wait for it."""
    machine = live_machine(DEFAULT)
    keeper = sampler(machine)
    with machine.shut():
        scrape = asyncio.create_task(keeper.current(NEVER))
        await asyncio.sleep(0)
        signalled = [asyncio.create_task(keeper.again("signal")) for _ in range(5)]
        await asyncio.sleep(0)
        offer(machine, REDUCED)
    await scrape
    assert {served(await one) for one in signalled} == {REDUCED}
    assert (machine.readings, keeper.tally.samples["signal"]) == (2, 1)


@in_loop
async def test_a_signal_tries_isolated_cpus_again_that_failed() -> None:
    """An isolated CPU that failed is left alone until a signal; those that could be read stay retained then."""
    machine = LiveMachine(*[reader(kvm_rows(DEFAULT))] * 2, "outside of the cpuset")
    machine.isolated_cpus |= {1, 2}
    keeper = sampler(machine, max_age=1e-9)
    await keeper.current(NEVER)
    machine.cpus[2] = reader(kvm_rows(DEFAULT))
    machine.visits.clear()
    waited, signalled = await keeper.current(NEVER), await keeper.again("signal")
    assert waited is not None
    assert signalled is not None
    assert (set(waited.sample.failed), set(signalled.sample.failed)) == ({2}, set())
    assert (set(signalled.sample.sampled), set(signalled.sample.retained)) == ({0, 2}, {1})
    assert machine.visits == [0, 0, 2]


# How long a scrape waits.


@in_loop
async def test_scrapes_share_an_attempt() -> None:
    """Scrapes during a reading wait for it and are all served its result."""
    machine = live_machine(DEFAULT)
    keeper = sampler(machine)
    with machine.shut():
        scrapes = [asyncio.create_task(keeper.current(NEVER)) for _ in range(50)]
        await asyncio.sleep(0)
    assert {served(observation) for observation in await asyncio.gather(*scrapes)} == {DEFAULT}
    assert (machine.readings, keeper.tally.samples) == (1, NONE | {"start": 1})


@in_loop
async def test_a_late_attempt_is_a_failure_and_the_last_good_sample_is_served(caplog: pytest.LogCaptureFixture) -> None:
    """A timeout counts once for all waiting scrapes. Until the reading ends, scrapes are served without waiting."""
    caplog.set_level(logging.INFO)
    machine, ended = live_machine(DEFAULT), asyncio.Event()
    keeper = sampler(machine, max_age=1e-9, published=lambda *_: ended.set())
    first = await keeper.current(NEVER)
    keeper.limits = replace(keeper.limits, timeout=0.05)
    ended.clear()
    offer(machine, REDUCED)
    with machine.shut():
        late = await asyncio.gather(*(keeper.current(NEVER) for _ in range(10)))
        assert late == [first] * 10
        assert (keeper.tally.success, keeper.tally.failures) == (False, {"timeout": 1, "error": 0})
        for _ in range(100):
            assert await keeper.current(NEVER) is first
        assert keeper.tally.failures == {"timeout": 1, "error": 0}
    await ended.wait()
    assert keeper.tally.success
    assert served(keeper.last) == REDUCED
    assert (machine.readings, keeper.tally.samples) == (3, NONE | {"start": 1, "age": 1})
    failure, recovery = messages(caplog)
    assert failure.startswith("ERROR the CPUID leaves could not be sampled: timed out after 0.05 s; ")
    assert recovery == "INFO the CPUID leaves can be sampled again"


@in_loop
async def test_a_scrape_that_does_not_wait_is_no_failure_of_the_machine(caplog: pytest.LogCaptureFixture) -> None:
    """It is served the last good sample, without success; other scrapes wait for the new one, which is a success."""
    machine = live_machine(DEFAULT)
    keeper = sampler(machine, max_age=1e-9)
    first = await keeper.current(NEVER)
    offer(machine, REDUCED)
    with machine.shut():
        patient = asyncio.create_task(keeper.current(NEVER))
        assert await keeper.current(0) is first
        assert not keeper.tally.success
        late = asyncio.create_task(keeper.current(NEVER))
        await asyncio.sleep(0)
        assert not patient.done()
        assert not late.done()
    assert [served(await one) for one in (patient, late)] == [REDUCED] * 2
    assert (keeper.tally.success, keeper.tally.failures) == (True, {"timeout": 0, "error": 0})
    assert messages(caplog) == []


@in_loop
async def test_an_attempt_times_out_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout is counted and logged although the only scrape gave up before it."""
    logged = asyncio.Event()
    monkeypatch.setattr("kvm_exporter.collector.sampler.logger.error", lambda *_, **__: logged.set())
    machine = live_machine(DEFAULT)
    keeper = sampler(machine, timeout=0.05)
    with machine.shut():
        await keeper.current(0)
        assert keeper.tally.failures["timeout"] == 0
        await logged.wait()
        assert keeper.tally.failures["timeout"] == 1


@in_loop
async def test_before_the_first_sample_there_is_nothing_to_serve() -> None:
    """Before the first sample nothing is served; the first sample is served as soon as it is complete."""
    machine, ended = live_machine(DEFAULT), asyncio.Event()
    keeper = sampler(machine, timeout=0.05, published=lambda *_: ended.set())
    with machine.shut():
        assert await keeper.current(NEVER) is None
        assert await keeper.current(NEVER) is None
    await ended.wait()
    assert served(keeper.last) == DEFAULT
    assert keeper.tally.success


# Failures.


@in_loop
async def test_a_failure_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """A repeated failure is logged once; a new reason is logged, and so is the recovery."""
    caplog.set_level(logging.INFO)
    machine = live_machine(DEFAULT)
    keeper = sampler(machine, max_age=1e-9)
    first = await keeper.current(NEVER)
    for fault in ("no leaves", "no leaves", "no leaves", "no CPUs", "no CPUs"):
        machine.fault = ReadError(fault)
        assert await keeper.current(NEVER) is first
        assert not keeper.tally.success
    machine.fault = None
    assert served(await keeper.current(NEVER)) == DEFAULT
    assert keeper.tally.success
    assert keeper.tally.failures == {"timeout": 0, "error": 5}
    assert keeper.tally.samples == NONE | {"start": 1, "age": 6}
    assert messages(caplog) == [
        "ERROR the CPUID leaves could not be sampled: no leaves",
        "ERROR the CPUID leaves could not be sampled: no CPUs",
        "INFO the CPUID leaves can be sampled again",
    ]
    assert all(record.exc_info is None for record in caplog.records)


@in_loop
async def test_where_cpus_cannot_be_listed_nothing_is_read() -> None:
    """A failure to list the CPUs counts as an error, and the last good sample is served."""

    class Unlisted(LiveMachine):
        """A machine whose list of CPUs can become unreadable."""

        gone = False

        def online(self) -> tuple[int, ...]:
            """Return the CPUs, or raise ReadError."""
            if self.gone:
                raise ReadError("no list")
            return super().online()

    machine = Unlisted(reader(kvm_rows(DEFAULT)))
    keeper = sampler(machine)
    first = await keeper.current(NEVER)
    machine.gone = True
    assert await keeper.current(NEVER) is first
    assert (keeper.tally.success, keeper.tally.failures) == (False, {"timeout": 0, "error": 1})
    machine.gone = False
    await keeper.current(NEVER)
    assert keeper.tally.failures["error"] == 1


@in_loop
async def test_a_mistake_of_ours_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """An exception other than ReadError is logged with its traceback, and sampling goes on."""
    machine = live_machine(DEFAULT)
    machine.fault = ZeroDivisionError("mistake")
    keeper = sampler(machine)
    assert await keeper.current(NEVER) is None
    [record] = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


@in_loop
async def test_why_the_last_attempt_failed_is_known() -> None:
    """The exception of the last failed attempt is kept, so that the daemon can exit if no leaf can ever be read."""
    machine = live_machine(DEFAULT)
    machine.fault = UnavailableError("not here")
    keeper = sampler(machine)
    await keeper.current(NEVER)
    assert keeper.failure is machine.fault


@in_loop
async def test_until_one_succeeds_every_scrape_tries() -> None:
    """Until the first success every scrape tries with the reason "start"; the first success counts no change."""
    machine = live_machine(DEFAULT)
    keeper = sampler(machine)
    machine.fault = ReadError("not yet")
    for _ in range(3):
        assert await keeper.current(NEVER) is None
    machine.fault = None
    assert served(await keeper.current(NEVER)) == DEFAULT
    assert keeper.tally.samples == NONE | {"start": 4}
    assert keeper.tally.changes == 0


@in_loop
async def test_where_no_age_makes_a_sample_due_one_without_cpus_is_tried_again() -> None:
    """With a maximum age of 0, every scrape tries until a CPU could be read; after that, none does."""
    machine = LiveMachine("outside of the cpuset")
    machine.home = reader(kvm_rows(DEFAULT))
    keeper = sampler(machine, max_age=0)
    for _ in range(2):
        await keeper.current(NEVER)
        assert not keeper.tally.success
    machine.cpus[0] = machine.home
    for _ in range(2):
        await keeper.current(NEVER)
        assert keeper.tally.success
    assert keeper.tally.samples == NONE | {"start": 3}


# Changes.


@in_loop
async def test_changes_are_counted_and_told() -> None:
    """A sample that differs from the one before is a change; the callback gets every sample and the one before."""
    told: list[tuple[int | None, int | None]] = []
    machine = live_machine(DEFAULT, DEFAULT)
    keeper = sampler(machine, max_age=1e-9, published=lambda before, now: told.append((served(before), served(now))))
    counts = []
    for eax in (DEFAULT, DEFAULT, REDUCED, REDUCED, DEFAULT):
        offer(machine, eax)
        await keeper.current(NEVER)
        counts.append(keeper.tally.changes)
    assert counts == [0, 0, 1, 1, 2]
    assert told == [
        (None, DEFAULT),
        (DEFAULT, DEFAULT),
        (DEFAULT, REDUCED),
        (REDUCED, REDUCED),
        (REDUCED, DEFAULT),
    ]


@in_loop
async def test_what_lasts_no_longer_than_a_look_is_no_change() -> None:
    """A migration during a sweep causes a second sweep, of which only the result is published and compared."""
    machine = live_machine(DEFAULT, DEFAULT)
    keeper = sampler(machine, max_age=1e-9)
    await keeper.current(NEVER)

    def migrate(visits: int) -> None:
        machine.cpus[1] = reader(kvm_rows(REDUCED if visits == 3 else DEFAULT))

    machine.before_visit = migrate
    observation = await keeper.current(NEVER)
    assert observation is not None
    assert (observation.sample.divergent, keeper.tally.changes, machine.readings) == ((), 0, 3)
