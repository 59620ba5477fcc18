"""This machine as a Source: executes CPUID on whichever CPU the thread runs on, or pinned to a given CPU.

Only this module imports the C extension (cpuid.c, pvclock.c), and it returns Registers and bytes, never cffi's cdata.
Source: sched_setaffinity(2), arch_prctl(2).
"""

import errno
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from kvm_exporter._cpuid import ffi, lib
from kvm_exporter.cpuid.registers import BulkReader, Reader, Registers, Run, one_by_one
from kvm_exporter.cpuid.topology import Topology
from kvm_exporter.cpuid.vdso import pvclock_address
from kvm_exporter.errors import ReadError, UnavailableError

ATTEMPTS = 5
"""How many times a read is attempted when the kernel moves the thread to another CPU during it, or when the hypervisor
updates the pvclock page."""

_PIN_REASONS = {
    errno.EINVAL: "it is outside this process's cpuset, or it went offline",
    errno.EPERM: "sched_setaffinity(2) is refused; allow it in the seccomp filter",
}


class Machine:
    """The CPUs of this machine. One thread at a time may read; other threads may use ``visit`` and call unstick().

    Raises ReadError if the list of CPUs cannot be read.
    """

    def __init__(self, topology: Topology) -> None:
        self.online = topology.online
        self.isolated = topology.isolated
        #: The reader that is pinned to a CPU now, a new object for each CPU; None while no CPU is being read.
        self.visit: PinnedReader | None = None
        #: Executes CPUID on whichever CPU the thread runs on.
        self.anywhere = UnpinnedReader()
        self._pvclock = pvclock_address()
        self._thread = 0
        self._home = b""

    def allowed(self) -> frozenset[int]:
        """The CPUs that the process may run on: sched_getaffinity(2) of the main thread, which is never pinned."""
        return frozenset(os.sched_getaffinity(os.getpid()))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Surround all reads of one sample, and restore the thread's CPU mask afterwards.

        Raises UnavailableError if CPUID cannot be executed: on another architecture, or where it faults.
        """
        _require(lib.kvm_cpuid_allowed())
        self._thread = threading.get_native_id()
        # The main thread is never pinned, so its mask is the mask of the process. The mask of the reading thread would
        # lose each CPU that was offline during one sample: the kernel leaves offline CPUs out when it returns a mask.
        self._home = _mask(os.sched_getaffinity(os.getpid()))
        try:
            yield
        finally:
            moved, self.visit = self.visit is not None, None
            if moved and _pin(0, self._home):
                # All CPUs of the mask are offline: allow every CPU that is left.
                _pin(0, b"\xff" * max(len(self._home), 128))

    def on(self, cpu: int) -> Reader:
        """Pin the calling thread to a CPU and return a Reader that checks, for each read, that it ran on that CPU.

        Raises ReadError, as the Reader does, if the thread cannot be pinned to the CPU.
        """
        self.visit = PinnedReader(cpu)
        self.visit.pin()
        return self.visit

    def pvclock(self) -> bytes | None:
        """Return KVM's pvclock page, as Source says; None also if each of 5 attempts finds it being updated."""
        return read_pvclock(self._pvclock) if self._pvclock is not None else None

    def unstick(self) -> None:
        """Restore the reading thread's CPU mask, so that its read of the current CPU fails. Call from another thread.

        A thread that is pinned to a CPU which a real-time task monopolises never runs there; with the wider mask, the
        kernel moves it to another CPU. If the thread has just started with the next CPU, its Reader notices that it
        was moved and pins it again.
        """
        if self.visit is not None:
            self.visit.given_up = True
            _pin(self._thread, self._home)


class UnpinnedReader(BulkReader):
    """A Reader of whichever CPU the thread runs on. Raises ReadError if the thread moves during each of 5 attempts."""

    def __init__(self) -> None:
        self._out = ffi.new("uint32_t[5]")

    def __call__(self, leaf: int, subleaf: int) -> Registers:
        """Execute CPUID for one leaf and subleaf and return its registers."""
        for _ in range(ATTEMPTS):
            error = lib.kvm_cpuid_execute(leaf, subleaf, self._out)
            if error == 0:
                return Registers._make(ffi.unpack(self._out, 4))
            if error != errno.EAGAIN:
                _require(error)
        raise ReadError(
            f"leaf {leaf:#010x} cannot be read: the kernel moved the thread to another CPU {ATTEMPTS} times"
        )

    def runs(self, leaves: range) -> list[Run]:
        """Execute CPUID for all leaves in one call; if the thread moves meanwhile, read the rest one by one."""
        rows, read = ffi.new("uint32_t[]", 5 * len(leaves)), ffi.new("size_t *")
        used = lib.kvm_cpuid_execute_range(leaves.start, leaves.step, len(leaves), rows, read)
        words, done = ffi.unpack(rows, 5 * used), read[0]
        bounds = pairwise([*words[4::5], done])
        found = [
            (leaves[start:end], Registers(*words[5 * row : 5 * row + 4])) for row, (start, end) in enumerate(bounds)
        ]
        return [*found, *one_by_one(self, leaves[done:])]


class PinnedReader:
    """A Reader of one CPU. The messages of its errors give the reason without the CPU number; the caller adds that."""

    __slots__ = ("_mask", "_out", "cpu", "given_up")

    def __init__(self, cpu: int) -> None:
        self.cpu = cpu
        self.given_up = False
        self._mask = _mask({cpu})
        self._out = ffi.new("uint32_t[5]")

    def pin(self) -> None:
        """Pin the calling thread to the CPU. Raises ReadError if the kernel refuses.

        os.sched_setaffinity() does not do: it holds the global interpreter lock until the thread runs on the CPU, which
        may be never.
        """
        if error := _pin(0, self._mask):
            reason = _PIN_REASONS.get(error, os.strerror(error))
            raise ReadError(reason)

    def __call__(self, leaf: int, subleaf: int) -> Registers:
        """Execute CPUID on the CPU and return its registers.

        Raises ReadError after unstick(), or if the kernel moves the thread away during each of 5 attempts.
        """
        for _ in range(ATTEMPTS):
            error = lib.kvm_cpuid_execute(leaf, subleaf, self._out)
            if error == 0:
                *words, executed_on = ffi.unpack(self._out, 5)
                if executed_on == self.cpu:
                    return Registers(*words)
            elif error != errno.EAGAIN:
                _require(error)
            if self.given_up:
                raise ReadError("a real-time task is monopolising this CPU")
            self.pin()
        raise ReadError(f"the kernel moved the thread to another CPU {ATTEMPTS} times")


def read_pvclock(address: int) -> bytes | None:
    """Return the 32 bytes of a pvclock page at an address of this process; None if they cannot be read.

    Any address will do: memory that is not there is no fault. The page is the first CPU's, and is read on any CPU.
    """
    out = ffi.new("uint8_t[32]")
    for _ in range(ATTEMPTS):
        error = lib.kvm_pvclock_copy(address, out)
        if error == 0:
            return bytes(ffi.unpack(out, 32))
        if error != errno.EAGAIN:
            break
    return None


def _require(error: int) -> None:
    if error == errno.ENOTSUP:
        raise UnavailableError(
            f"CPUID exists on x86 processors only, and this machine is {platform.machine()}; run the exporter on x86"
        )
    if error == errno.EACCES:
        raise UnavailableError(
            "CPUID faults in this process (arch_prctl ARCH_SET_CPUID); start the exporter without that restriction"
        )
    if error:
        raise UnavailableError(f"CPUID cannot be executed: {os.strerror(error)}")


def _mask(cpus: set[int]) -> bytes:
    """Return the CPU numbers as the kernel's cpumask: bit N is CPU N, in whole little-endian 64-bit words."""
    words = max(cpus) // 64 + 1
    return sum([1 << cpu for cpu in cpus]).to_bytes(words * 8, "little")


def _pin(thread: int, mask: bytes) -> int:
    """Set a thread's CPU mask; 0 is the calling thread. Return 0 or an errno: sched_setaffinity(2)."""
    return lib.kvm_cpuid_pin(thread, mask, len(mask))
