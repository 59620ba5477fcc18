"""kvm_exporter.cpuid.machine on the real CPUs: registers equal those of other programs, CPU masks are restored."""

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
from kvm_exporter.cpuid.registers import read_runs
from kvm_exporter.cpuid.topology import Topology
from kvm_exporter.errors import ReadError, UnavailableError
from lab.exporter import Exporter, exporter
from lab.proc import scrape_until

CPUS = sorted(os.sched_getaffinity(0))
NO_CPU = 5000
"""A CPU number that exceeds glibc's cpu_set_t and that this kernel does not have."""

T = TypeVar("T")


def online() -> list[int]:
    """Return the numbers of the online CPUs, read from each CPU's own folder in sysfs."""
    return sorted(int(path.name[3:]) for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*") if is_online(path))


def is_online(folder: Path) -> bool:
    """Return whether a CPU is online; a CPU that cannot be taken offline has no such file."""
    switch = folder / "online"
    return not switch.exists() or switch.read_text() == "1\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Exporter]:
    """Run an exporter on this machine."""
    with exporter("--sample.max-age=1us") as started:
        yield started


def test_every_online_cpu_is_sampled(running: Exporter) -> None:
    """No CPU is left out where nothing forbids it; one that is held for a moment is there the next time."""
    every = {("sampled",): len(online()), ("retained",): 0, ("skipped",): 0, ("failed",): 0}
    scrape = scrape_until(running.scrape, lambda found: found.values("kvm_cpus", "state") == every)
    assert scrape.value("kvm_cpus_online") == len(online())


# The CPU mask of the thread that reads.


def in_thread(job: Callable[[], T]) -> T:
    """Run a job in a new thread, so that the mask of the test's own thread does not change."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(job).result()


@contextmanager
def process_on(cpus: set[int]) -> Iterator[None]:
    """Restrict the process to some CPUs by setting the mask of its main thread, which new threads inherit."""
    before = os.sched_getaffinity(os.getpid())
    os.sched_setaffinity(os.getpid(), cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(os.getpid(), before)


def read_all(machine: Machine) -> None:
    """Read every CPU."""
    for cpu in CPUS:
        machine.on(cpu)(1, 0)


def fail_at_a_cpu(machine: Machine) -> None:
    """Read one CPU, then try to visit one that does not exist."""
    machine.on(CPUS[-1])(1, 0)
    machine.on(NO_CPU)


def stumble(machine: Machine) -> None:
    """Raise an unrelated error while a CPU is visited."""
    machine.on(CPUS[-1])
    raise ZeroDivisionError


def be_freed(machine: Machine) -> None:
    """Have another thread give the visit up."""
    machine.on(CPUS[-1])
    in_thread(machine.unstick)


def visit_nobody(machine: Machine) -> None:
    """Read without visiting a CPU."""
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
    """However a reading ends, the mask of the thread is afterwards that of the process."""

    def job() -> set[int]:
        machine = Machine(Topology())
        with outcome, machine.reading():
            way(machine)
        assert machine.visit is None
        return os.sched_getaffinity(0)

    with process_on(mask):
        assert in_thread(job) == mask


def test_the_thread_is_where_it_reads() -> None:
    """While a CPU is visited, the thread's mask is that CPU alone; the APIC IDs in EBX of leaf 1 differ per CPU."""

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
    """A thread that was moved to another CPU, as when its CPU goes offline, pins itself again before it reads."""

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
    """A read on a CPU whose visit was given up raises ReadError, and the next CPU can be read."""

    def job() -> None:
        machine = Machine(Topology())
        with machine.reading():
            expected = machine.on(CPUS[0])(1, 0).eax
            read = machine.on(CPUS[-1])
            in_thread(machine.unstick)
            assert os.sched_getaffinity(0) == {CPUS[0]}
            with pytest.raises(ReadError) as caught:
                read(1, 0)
            assert str(caught.value) == "a real-time task is monopolising this CPU"
            assert machine.on(CPUS[0])(1, 0).eax == expected

    with process_on({CPUS[0]}):
        in_thread(job)


def test_nothing_is_given_up_outside_of_a_visit() -> None:
    """A call of unstick() after the visit has ended changes no CPU mask."""

    def job() -> set[int]:
        machine = Machine(Topology())
        with machine.reading():
            read_all(machine)
        os.sched_setaffinity(0, {CPUS[-1]})
        in_thread(machine.unstick)
        return os.sched_getaffinity(0)

    assert in_thread(job) == {CPUS[-1]}


def test_a_cpu_that_does_not_exist() -> None:
    """The error names the two likely reasons."""

    def job() -> None:
        machine = Machine(Topology())
        with machine.reading():
            machine.on(NO_CPU)

    with pytest.raises(ReadError) as caught:
        in_thread(job)
    expected = "it is outside this process's cpuset, or it went offline"
    assert str(caught.value) == expected


# Many leaves in one call.


class Restless:
    """The extension, in a thread that moves to another CPU after the first few of many leaves."""

    def __init__(self, good: int) -> None:
        self._good = good
        self.single: list[int] = []

    def kvm_cpuid_execute(self, leaf: int, subleaf: int, out: Any) -> int:  # noqa: ANN401 - cdata
        """Read one leaf, and note it."""
        self.single.append(leaf)
        return lib.kvm_cpuid_execute(leaf, subleaf, out)

    def kvm_cpuid_execute_range(self, first: int, step: int, count: int, rows: Any, read: Any) -> int:  # noqa: ANN401 - cdata
        """Read the first few leaves, and fail at the next."""
        assert count >= self._good
        return lib.kvm_cpuid_execute_range(first, step, self._good, rows, read)


@pytest.mark.parametrize("good", [0, 1, 2, 3, 255, 256])
def test_many_leaves_are_read_as_each_by_itself(good: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves are read in one call until the thread moves, and the rest one by one, with the same result."""
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
    """The error names the leaf that could not be read."""
    monkeypatch.setattr(cpuid, "lib", Library(execute=errno.EAGAIN))
    with pytest.raises(ReadError, match="leaf 0x40000100 cannot be read: the kernel moved"):
        read_runs(Machine(Topology()).anywhere, range(0x4000_0100, 0x4000_0300, 0x100))


# Errors that the extension can return.


class Library:
    """Stands in for the extension: returns a given errno value from each function, and a given CPU number."""

    def __init__(self, *, allowed: int = 0, execute: int = 0, pin: int = 0, cpu: int = 0) -> None:
        self._answers = allowed, execute, pin
        self._cpu = cpu
        self.executed = 0

    def kvm_cpuid_allowed(self) -> int:
        """Return whether CPUID may be executed."""
        return self._answers[0]

    def kvm_cpuid_execute(self, leaf: int, subleaf: int, out: MutableSequence[int]) -> int:
        """Execute CPUID once."""
        del leaf, subleaf
        out[4] = self._cpu
        self.executed += 1
        return self._answers[1]

    def kvm_cpuid_execute_range(self, first: int, step: int, count: int, rows: object, read: object) -> int:
        """Read none of the leaves."""
        del first, step, count, rows, read
        return 0

    def kvm_cpuid_pin(self, thread: int, mask: bytes, size: int) -> int:
        """Set the mask of a thread."""
        del thread, mask, size
        return self._answers[2]


NOT_X86 = f"CPUID exists on x86 processors only, and this machine is {platform.machine()}; run the exporter on x86"
FAULTS = "CPUID faults in this process (arch_prctl ARCH_SET_CPUID); start the exporter without that restriction"
OUTSIDE = "it is outside this process's cpuset, or it went offline"
REFUSED = "sched_setaffinity(2) is refused; allow it in the seccomp filter"


def read_cpu_3(machine: Machine) -> None:
    """Read CPU 3."""
    with machine.reading():
        machine.on(3)(1, 0)


def read_anywhere(machine: Machine) -> None:
    """Read without pinning the thread."""
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
        ({"cpu": 2}, read_cpu_3, ReadError, "the kernel moved the thread to another CPU 5 times"),
        (
            {"execute": errno.EAGAIN, "cpu": 3},
            read_cpu_3,
            ReadError,
            "the kernel moved the thread to another CPU 5 times",
        ),
        (
            {"execute": errno.EAGAIN},
            read_anywhere,
            ReadError,
            "leaf 0x40000001 cannot be read: the kernel moved the thread to another CPU 5 times",
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
    """Each errno value of the extension becomes an error that states the cause and, where there is one, the fix."""
    library = Library(**answers)
    monkeypatch.setattr(cpuid, "lib", library)
    with pytest.raises(ReadError) as caught:
        in_thread(lambda: way(Machine(Topology())))
    assert (type(caught.value), str(caught.value)) == (kind, message)
    assert library.executed <= ATTEMPTS
