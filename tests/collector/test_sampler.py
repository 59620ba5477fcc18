"""When the machine is looked at, who waits for it and how long, and what is served when it cannot be read."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from kvm_exporter.collector.observer import Observation
from kvm_exporter.collector.sampler import Limits, Published, Sampler
from kvm_exporter.collector.sweep import Selection, look
from kvm_exporter.cpuid.registers import ReadError, UnavailableError
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
    published: Published | None = None,
    change: Callable[[Sample], Sample] = lambda sample: sample,
) -> Sampler:
    """A sampler of a machine; every sample may be changed before it is handed out."""

    def observe(last: Sample | None) -> Observation:
        return Observation(change(look(machine, Selection(), last)))

    return Sampler(machine, observe, Limits(max_age, timeout), published)


def served(observation: Observation | None) -> int | None:
    """The feature word that is served."""
    kvm = observation.sample.common.kvm if observation is not None else None
    return kvm.eax if kvm is not None else None


def offer(machine: LiveMachine, eax: int) -> None:
    """From now on every CPU is offered this."""
    machine.cpus = dict.fromkeys(machine.cpus, reader(kvm_rows(eax)))


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, with its level."""
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


# What makes an attempt due.


@in_loop
async def test_the_first_scrape_looks_and_the_next_is_served_the_same() -> None:
    """A sample that is young enough is served as it is, without a look at the machine."""
    machine = live_machine(DEFAULT)
    keeper = sampler(machine)
    first = await keeper.current(NEVER)
    assert await keeper.current(NEVER) is first
    assert (served(first), machine.readings, keeper.record.samples) == (DEFAULT, 1, NONE | {"start": 1})
    assert keeper.record.success


def older(seconds: float) -> Callable[[Sample], Sample]:
    """Samples that were taken some seconds ago, going by the time since boot."""
    return lambda sample: replace(sample, boottime=sample.boottime - seconds)


def other_wall_clock(seconds: float) -> Callable[[Sample], Sample]:
    """Samples that were taken some seconds ago, going by a clock that people set."""
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
    """A sample that is older than the limit by CLOCK_BOOTTIME, suspended time included, is taken again."""
    keeper = sampler(live_machine(DEFAULT), max_age=max_age, change=change)
    await keeper.current(NEVER)
    await keeper.current(NEVER)
    assert keeper.record.samples == NONE | {"start": 1, "age": int(due)}


@in_loop
async def test_samples_carry_the_time_since_boot() -> None:
    """What a sample's age is measured against is CLOCK_BOOTTIME, when the look began."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    observation = await sampler(live_machine(DEFAULT)).current(NEVER)
    assert observation is not None
    assert before <= observation.sample.boottime <= time.clock_gettime(time.CLOCK_BOOTTIME)


@in_loop
async def test_cpus_that_come_and_go_are_seen_at_the_next_scrape() -> None:
    """A change of the online CPUs makes a sample due however young the last one is, once."""
    machine = live_machine(DEFAULT, DEFAULT)
    keeper = sampler(machine)
    counts = []
    for cpus in ((0, 1), (0, 1, 2), (0, 1, 2), (0, 2)):
        machine.cpus = dict.fromkeys(cpus, reader(kvm_rows(DEFAULT)))
        observation = await keeper.current(NEVER)
        assert observation is not None
        counts.append((observation.sample.online, keeper.record.samples["hotplug"]))
    assert counts == [(2, 0), (3, 1), (3, 1), (2, 2)]


@in_loop
async def test_a_signal_makes_a_sample_due() -> None:
    """SIGHUP looks again however young the last sample is."""
    machine = live_machine(DEFAULT)
    keeper = sampler(machine)
    await keeper.current(NEVER)
    offer(machine, REDUCED)
    assert served(await keeper.again("signal")) == REDUCED
    assert keeper.record.samples == NONE | {"start": 1, "signal": 1}


@in_loop
async def test_a_signal_during_a_reading_reads_again_after_it() -> None:
    """What is being read may be older than the signal: another sample follows."""
    machine = live_machine(DEFAULT)
    keeper = sampler(machine)
    with machine.shut():
        scrape = asyncio.create_task(keeper.current(NEVER))
        await asyncio.sleep(0)
        signalled = asyncio.create_task(keeper.again("signal"))
        await asyncio.sleep(0)
    assert served(await scrape) == served(await signalled) == DEFAULT
    assert (machine.readings, keeper.record.samples) == (2, NONE | {"start": 1, "signal": 1})


@in_loop
async def test_signals_during_a_reading_share_the_next() -> None:
    """The first that finds it ended begins another for all, and all wait for that one."""
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
    assert (machine.readings, keeper.record.samples["signal"]) == (2, 1)


# Who waits.


@in_loop
async def test_scrapes_share_an_attempt() -> None:
    """However many scrapes come while the machine is read, it is read once, and all are served the result."""
    machine = live_machine(DEFAULT)
    keeper = sampler(machine)
    with machine.shut():
        scrapes = [asyncio.create_task(keeper.current(NEVER)) for _ in range(50)]
        await asyncio.sleep(0)
    assert {served(observation) for observation in await asyncio.gather(*scrapes)} == {DEFAULT}
    assert (machine.readings, keeper.record.samples) == (1, NONE | {"start": 1})


@pytest.mark.parametrize(("timeout", "patience"), [(0.05, NEVER), (NEVER, 0.05)], ids=["timeout", "patience"])
@in_loop
async def test_a_late_attempt_is_a_failure_and_the_last_good_sample_is_served(
    timeout: float,  # noqa: ASYNC109 - a setting of the sampler
    patience: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It counts once, whoever waited; until it ends nobody waits for it again; then all is well."""
    caplog.set_level(logging.INFO)
    machine, ended = live_machine(DEFAULT), asyncio.Event()
    keeper = sampler(machine, max_age=1e-9, published=lambda *_: ended.set())
    first = await keeper.current(NEVER)
    keeper.limits = replace(keeper.limits, timeout=timeout)
    ended.clear()
    offer(machine, REDUCED)
    with machine.shut():
        late = await asyncio.gather(*(keeper.current(patience) for _ in range(10)))
        assert late == [first] * 10
        assert (keeper.record.success, keeper.record.failures) == (False, {"timeout": 1, "error": 0})
        for _ in range(100):
            assert await keeper.current(NEVER) is first
        assert keeper.record.failures == {"timeout": 1, "error": 0}
    await ended.wait()
    assert keeper.record.success
    assert served(keeper.last) == REDUCED
    assert (machine.readings, keeper.record.samples) == (3, NONE | {"start": 1, "age": 1})
    failure, recovery = messages(caplog)
    assert failure.startswith("ERROR the CPUID leaves could not be sampled: no answer after ")
    assert recovery == "INFO the CPUID leaves can be sampled again"


@in_loop
async def test_before_the_first_sample_there_is_nothing_to_serve() -> None:
    """A machine that does not answer at the start is served as nothing, and as soon as it answers, as it is."""
    machine, ended = live_machine(DEFAULT), asyncio.Event()
    keeper = sampler(machine, timeout=0.05, published=lambda *_: ended.set())
    with machine.shut():
        assert await keeper.current(NEVER) is None
        assert await keeper.current(NEVER) is None
    await ended.wait()
    assert served(keeper.last) == DEFAULT
    assert keeper.record.success


# Failures.


@in_loop
async def test_a_failure_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """However often it repeats, it is one line; each new reason is another, and so is that it is over."""
    caplog.set_level(logging.INFO)
    machine = live_machine(DEFAULT)
    keeper = sampler(machine, max_age=1e-9)
    first = await keeper.current(NEVER)
    for fault in ("no leaves", "no leaves", "no leaves", "no CPUs", "no CPUs"):
        machine.fault = ReadError(fault)
        assert await keeper.current(NEVER) is first
        assert not keeper.record.success
    machine.fault = None
    assert served(await keeper.current(NEVER)) == DEFAULT
    assert keeper.record.success
    assert keeper.record.failures == {"timeout": 0, "error": 5}
    assert keeper.record.samples == NONE | {"start": 1, "age": 6}
    assert messages(caplog) == [
        "ERROR the CPUID leaves could not be sampled: no leaves",
        "ERROR the CPUID leaves could not be sampled: no CPUs",
        "INFO the CPUID leaves can be sampled again",
    ]
    assert all(record.exc_info is None for record in caplog.records)


@in_loop
async def test_where_cpus_cannot_be_listed_nothing_is_read() -> None:
    """It is a failure like any other, and what was good is served."""

    class Unlisted(LiveMachine):
        """Its list of CPUs may be gone."""

        gone = False

        def online(self) -> tuple[int, ...]:
            """The CPUs, if they can be listed."""
            if self.gone:
                raise ReadError("no list")
            return super().online()

    machine = Unlisted(reader(kvm_rows(DEFAULT)))
    keeper = sampler(machine)
    first = await keeper.current(NEVER)
    machine.gone = True
    assert await keeper.current(NEVER) is first
    assert (keeper.record.success, keeper.record.failures) == (False, {"timeout": 0, "error": 1})
    machine.gone = False
    await keeper.current(NEVER)
    assert keeper.record.failures["error"] == 1


@in_loop
async def test_a_mistake_of_ours_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """What is no ReadError is not expected: where it happened is wanted, and the daemon goes on."""
    machine = live_machine(DEFAULT)
    machine.fault = ZeroDivisionError("mistake")
    keeper = sampler(machine)
    assert await keeper.current(NEVER) is None
    [record] = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


@in_loop
async def test_why_the_last_attempt_failed_is_known() -> None:
    """The daemon asks, to end where no leaf can ever be read."""
    machine = live_machine(DEFAULT)
    machine.fault = UnavailableError("not here")
    keeper = sampler(machine)
    await keeper.current(NEVER)
    assert keeper.failure is machine.fault


@in_loop
async def test_until_one_succeeds_every_scrape_tries() -> None:
    """The reason stays "start", and the first success is the first sample."""
    machine = live_machine(DEFAULT)
    keeper = sampler(machine)
    machine.fault = ReadError("not yet")
    for _ in range(3):
        assert await keeper.current(NEVER) is None
    machine.fault = None
    assert served(await keeper.current(NEVER)) == DEFAULT
    assert keeper.record.samples == NONE | {"start": 4}
    assert keeper.record.changes == 0


# Changes.


@in_loop
async def test_changes_are_counted_and_told() -> None:
    """A sample that differs from the one before counts; whoever asked is told of every one, with the one before."""
    told: list[tuple[int | None, int | None]] = []
    machine = live_machine(DEFAULT, DEFAULT)
    keeper = sampler(machine, max_age=1e-9, published=lambda before, now: told.append((served(before), served(now))))
    changes = []
    for eax in (DEFAULT, DEFAULT, REDUCED, REDUCED, DEFAULT):
        offer(machine, eax)
        await keeper.current(NEVER)
        changes.append(keeper.record.changes)
    assert changes == [0, 0, 1, 1, 2]
    assert told == [
        (None, DEFAULT),
        (DEFAULT, DEFAULT),
        (DEFAULT, REDUCED),
        (REDUCED, REDUCED),
        (REDUCED, DEFAULT),
    ]


@in_loop
async def test_what_lasts_no_longer_than_a_look_is_no_change() -> None:
    """A migration in the middle of a sweep makes CPUs differ: a second look is published, and the first is not."""
    machine = live_machine(DEFAULT, DEFAULT)
    keeper = sampler(machine, max_age=1e-9)
    await keeper.current(NEVER)

    def migrate(visits: int) -> None:
        machine.cpus[1] = reader(kvm_rows(REDUCED if visits == 3 else DEFAULT))

    machine.before_visit = migrate
    observation = await keeper.current(NEVER)
    assert observation is not None
    assert (observation.sample.divergent, keeper.record.changes, machine.readings) == ((), 0, 3)
