"""CPUID on this machine: what is served is what other programs read, and nobody's CPU mask is changed for good."""

import errno
import os
import platform
from collections.abc import Callable, Iterator, MutableSequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kvm_exporter._cpuid import lib
from kvm_exporter.cpuid import machine as cpuid
from kvm_exporter.cpuid.machine import ATTEMPTS, Machine
from kvm_exporter.cpuid.registers import ReadError, UnavailableError, read_runs
from kvm_exporter.cpuid.topology import Topology
from lab.exporter import Exporter, exporter
from lab.proc import scrape_until

CPUS = sorted(os.sched_getaffinity(0))
NO_CPU = 5000
"""Beyond what glibc's cpu_set_t holds, and beyond what this kernel has."""

T = TypeVar("T")


def online() -> list[int]:
    """The online CPUs, as the C library counts them."""
    return sorted(int(path.name[3:]) for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*") if is_online(path))


def is_online(folder: Path) -> bool:
    """CPUs that cannot be taken offline have no such file."""
    switch = folder / "online"
    return not switch.exists() or switch.read_text() == "1\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Exporter]:
    """An exporter on this machine."""
    with exporter("--sample.max-age=1us") as started:
        yield started


def test_every_online_cpu_is_sampled(running: Exporter) -> None:
    """No CPU is left out where nothing forbids it; one that is held for a moment is there the next time."""
    every = {("sampled",): len(online()), ("retained",): 0, ("skipped",): 0, ("failed",): 0}
    scrape = scrape_until(running.scrape, lambda found: found.values("kvm_cpus", "state") == every)
    assert scrape.value("kvm_cpus_online") == len(online())


# The CPU mask of the thread that reads.


def in_thread(job: Callable[[], T]) -> T:
    """Run a job in a thread of its own, so that the test's own mask is not at stake."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(job).result()


@contextmanager
def process_on(cpus: set[int]) -> Iterator[None]:
    """The process may run on some CPUs: the mask of its main thread, which new threads inherit."""
    before = os.sched_getaffinity(os.getpid())
    os.sched_setaffinity(os.getpid(), cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(os.getpid(), before)


def read_all(machine: Machine) -> None:
    """Every CPU is read."""
    for cpu in CPUS:
        machine.on(cpu)(1, 0)


def fail_at_a_cpu(machine: Machine) -> None:
    """A CPU is read, and then one that does not exist."""
    machine.on(CPUS[-1])(1, 0)
    machine.on(NO_CPU)


def stumble(machine: Machine) -> None:
    """Something else goes wrong on a CPU."""
    machine.on(CPUS[-1])
    raise ZeroDivisionError


def be_freed(machine: Machine) -> None:
    """Another thread gives the visit up."""
    machine.on(CPUS[-1])
    in_thread(machine.give_up)


def visit_nobody(machine: Machine) -> None:
    """CPUID is executed only where the thread is."""
    machine.anywhere(1, 0)


@pytest.mark.parametrize("mask", [set(CPUS), {CPUS[0]}, {CPUS[-1]}], ids=["all", "first", "last"])
@pytest.mark.parametrize(
    ("way", "outcome"),
    [
        (read_all, nullcontext()),
        (fail_at_a_cpu, pytest.raises(ReadError)),
        (stumble, pytest.raises(ZeroDivisionError)),
        (be_freed, nullcontext()),
        (visit_nobody, nullcontext()),
    ],
)
def test_the_mask_is_afterwards_that_of_the_process(
    way: Callable[[Machine], None], outcome: AbstractContextManager[object], mask: set[int]
) -> None:
    """However the reading ends, the thread may run where the process may."""

    def job() -> set[int]:
        machine = Machine(Topology())
        with outcome, machine.reading():
            way(machine)
        assert machine.visit is None
        return os.sched_getaffinity(0)

    with process_on(mask):
        assert in_thread(job) == mask


def test_the_thread_is_where_it_reads() -> None:
    """While a CPU is visited, the thread's mask is that CPU; leaf 1's EBX tells CPUs apart by their APIC IDs."""

    def job() -> None:
        machine = Machine(Topology())
        apic_ids = set()
        with machine.reading():
            for cpu in CPUS:
                apic_ids.add(machine.on(cpu)(1, 0).ebx >> 24)
                assert os.sched_getaffinity(0) == {cpu}
        assert len(apic_ids) == len(CPUS)

    in_thread(job)


@pytest.mark.skipif(len(CPUS) == 1, reason="there is nowhere to move to")
def test_a_thread_that_was_moved_goes_back() -> None:
    """Whoever moves the reading thread away, as the kernel does when a CPU goes offline, it pins itself again."""

    def job() -> None:
        machine = Machine(Topology())
        with machine.reading():
            read = machine.on(CPUS[-1])
            os.sched_setaffinity(0, {CPUS[0]})
            read(1, 0)
            assert os.sched_getaffinity(0) == {CPUS[-1]}

    in_thread(job)


@pytest.mark.skipif(len(CPUS) == 1, reason="there is nowhere to move to")
def test_a_visit_that_was_given_up_fails() -> None:
    """A CPU that another task holds is a failure of that CPU, and the next one is read."""

    def job() -> None:
        machine = Machine(Topology())
        with machine.reading():
            expected = machine.on(CPUS[0])(1, 0).eax
            read = machine.on(CPUS[-1])
            in_thread(machine.give_up)
            assert os.sched_getaffinity(0) == {CPUS[0]}
            with pytest.raises(ReadError) as caught:
                read(1, 0)
            assert str(caught.value) == "another task holds it and lets nobody run"
            assert machine.on(CPUS[0])(1, 0).eax == expected

    with process_on({CPUS[0]}):
        in_thread(job)


def test_nothing_is_given_up_outside_of_a_visit() -> None:
    """Help that comes too late changes nobody's mask."""

    def job() -> set[int]:
        machine = Machine(Topology())
        with machine.reading():
            read_all(machine)
        os.sched_setaffinity(0, {CPUS[-1]})
        in_thread(machine.give_up)
        return os.sched_getaffinity(0)

    assert in_thread(job) == {CPUS[-1]}


def test_a_cpu_that_does_not_exist() -> None:
    """The failure says which CPU, and what may be the reason."""

    def job() -> None:
        machine = Machine(Topology())
        with machine.reading():
            machine.on(NO_CPU)

    with pytest.raises(ReadError) as caught:
        in_thread(job)
    expected = "it is outside this process's cpuset, or it went offline"
    assert str(caught.value) == expected


# Many leaves at once.


class Restless:
    """The extension in a thread that moves to another CPU after a few of many leaves."""

    def __init__(self, good: int) -> None:
        self._good = good
        self.single: list[int] = []

    def kvm_cpuid_execute(self, leaf: int, subleaf: int, out: Any) -> int:  # noqa: ANN401 - cdata
        """One leaf."""
        self.single.append(leaf)
        return lib.kvm_cpuid_execute(leaf, subleaf, out)

    def kvm_cpuid_execute_range(self, first: int, step: int, count: int, rows: Any, read: Any) -> int:  # noqa: ANN401 - cdata
        """So many leaves, and one that cannot be read."""
        assert count >= self._good
        return lib.kvm_cpuid_execute_range(first, step, self._good, rows, read)


@pytest.mark.parametrize("good", [0, 1, 2, 3, 255, 256])
def test_many_leaves_are_read_as_each_by_itself(good: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one call as far as the thread stays where it is, and one after the other from there."""
    leaves = range(0x3FFF_FFFF, 0x4001_00FE, 0x101)
    machine = Machine(Topology())
    library = Restless(good)
    expected = [(leaf, machine.anywhere(leaf, 0)) for leaf in leaves]
    monkeypatch.setattr(cpuid, "lib", library)
    found = read_runs(machine.anywhere, leaves)
    assert [(leaf, registers) for run, registers in found for leaf in run] == expected
    assert library.single == list(leaves[good:])
    assert len(leaves) == 256


def test_many_leaves_of_a_thread_that_moves_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leaf is named that could not be read."""
    monkeypatch.setattr(cpuid, "lib", Library(execute=errno.EAGAIN))
    with pytest.raises(ReadError, match="leaf 0x40000100 cannot be read: the thread moved"):
        read_runs(Machine(Topology()).anywhere, range(0x4000_0100, 0x4000_0300, 0x100))


# What the extension may answer.


class Library:
    """Answers in place of the extension: an errno value for each function, and the CPU that it claims to run on."""

    def __init__(self, *, allowed: int = 0, execute: int = 0, pin: int = 0, cpu: int = 0) -> None:
        self._answers = allowed, execute, pin
        self._cpu = cpu
        self.executed = 0

    def kvm_cpuid_allowed(self) -> int:
        """Whether CPUID may be executed."""
        return self._answers[0]

    def kvm_cpuid_execute(self, leaf: int, subleaf: int, out: MutableSequence[int]) -> int:
        """Execute it."""
        del leaf, subleaf
        out[4] = self._cpu
        self.executed += 1
        return self._answers[1]

    def kvm_cpuid_execute_range(self, first: int, step: int, count: int, rows: object, read: object) -> int:
        """Execute it many times: it ends at the first."""
        del first, step, count, rows, read
        return 0

    def kvm_cpuid_pin(self, thread: int, mask: bytes, size: int) -> int:
        """Move a thread."""
        del thread, mask, size
        return self._answers[2]


NOT_X86 = f"CPUID exists on x86 processors only, and this is {platform.machine()}: there is nothing to export here"
FAULTS = "CPUID faults in this process (arch_prctl ARCH_SET_CPUID): start the exporter without that restriction"
OUTSIDE = "it is outside this process's cpuset, or it went offline"
REFUSED = "sched_setaffinity is refused; a seccomp filter has to allow it"


def read_cpu_3(machine: Machine) -> None:
    """A CPU is read."""
    with machine.reading():
        machine.on(3)(1, 0)


def read_anywhere(machine: Machine) -> None:
    """The CPU where the thread is is read."""
    with machine.reading():
        machine.anywhere(0x4000_0001, 0)


@pytest.mark.parametrize(
    ("answers", "way", "kind", "message"),
    [
        ({"allowed": errno.ENOTSUP}, read_anywhere, UnavailableError, NOT_X86),
        ({"execute": errno.ENOTSUP}, read_anywhere, UnavailableError, NOT_X86),
        ({"allowed": errno.EACCES}, read_anywhere, UnavailableError, FAULTS),
        (
            {"execute": errno.ENOSYS},
            read_anywhere,
            UnavailableError,
            "CPUID cannot be executed: Function not implemented",
        ),
        ({"pin": errno.EINVAL}, read_cpu_3, ReadError, OUTSIDE),
        ({"pin": errno.EPERM}, read_cpu_3, ReadError, REFUSED),
        ({"pin": errno.ENOMEM}, read_cpu_3, ReadError, "Cannot allocate memory"),
        ({"cpu": 2}, read_cpu_3, ReadError, "the thread was moved away 5 times"),
        (
            {"execute": errno.EAGAIN, "cpu": 3},
            read_cpu_3,
            ReadError,
            "the thread was moved away 5 times",
        ),
        (
            {"execute": errno.EAGAIN},
            read_anywhere,
            ReadError,
            "leaf 0x40000001 cannot be read: the thread moved to another CPU 5 times",
        ),
    ],
)
def test_what_goes_wrong_is_said(
    answers: dict[str, int],
    way: Callable[[Machine], None],
    kind: type[ReadError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each answer of the extension becomes an error that says what is wrong, where, and what to do."""
    library = Library(**answers)
    monkeypatch.setattr(cpuid, "lib", library)
    with pytest.raises(ReadError) as caught:
        in_thread(lambda: way(Machine(Topology())))
    assert (type(caught.value), str(caught.value)) == (kind, message)
    assert library.executed <= ATTEMPTS
