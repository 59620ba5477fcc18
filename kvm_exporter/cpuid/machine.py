"""This machine as a Source: executes CPUID where the thread is, or pinned to a CPU. The only importer of the extension.

cdata stays in here; what leaves is Registers. Source: sched_setaffinity(2), arch_prctl(2), cpuid.c.
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
from kvm_exporter.errors import ReadError, UnavailableError

ATTEMPTS = 5
"""How often a read that moved to another CPU in the middle is made again."""

_PIN_REASONS = {
    errno.EINVAL: "it is outside this process's cpuset, or it went offline",
    errno.EPERM: "sched_setaffinity is refused; a seccomp filter has to allow it",
}


class Machine:
    """The CPUs of this machine. One thread at a time reads; any other may look at ``visit`` and call unstick()."""

    def __init__(self, topology: Topology) -> None:
        self.online = topology.online
        self.isolated = topology.isolated
        #: The visit to a CPU that goes on now; another object at each CPU.
        self.visit: PinnedReader | None = None
        #: Executes CPUID wherever the thread is.
        self.anywhere = UnpinnedReader()
        self._thread = 0
        self._home = b""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around all reads of a sample: says if CPUID cannot be executed, and puts the thread's CPU mask back after.

        Raises UnavailableError.
        """
        _require(lib.kvm_cpuid_allowed())
        self._thread = threading.get_native_id()
        # The main thread is never pinned, so that its mask is the process's. A mask of our own would forget a CPU that
        # was offline at one sample: the kernel leaves those out of its answer.
        self._home = _mask(os.sched_getaffinity(os.getpid()))
        try:
            yield
        finally:
            moved, self.visit = self.visit is not None, None
            if moved and _pin(0, self._home):
                # Every CPU that it may have run on is gone: any that is left.
                _pin(0, b"\xff" * max(len(self._home), 128))

    def on(self, cpu: int) -> Reader:
        """Pin the thread to a CPU and return a Reader that proves for each read that it happened there.

        Raises ReadError, as the Reader does, if the CPU cannot be reached.
        """
        self.visit = PinnedReader(cpu)
        self.visit.pin()
        return self.visit

    def unstick(self) -> None:
        """From another thread: end the visit that goes on by giving the reading thread its CPU mask back.

        A thread that waits for a CPU which a real-time task holds never runs there, but the kernel moves it at once.
        If the thread has just gone on to the next CPU, it finds itself moved and pins itself again.
        """
        if self.visit is not None:
            self.visit.given_up = True
            _pin(self._thread, self._home)


class UnpinnedReader(BulkReader):
    """A Reader wherever the thread is. Raises ReadError if it moves in the middle every time."""

    def __init__(self) -> None:
        self._out = ffi.new("uint32_t[5]")

    def __call__(self, leaf: int, subleaf: int) -> Registers:
        """Execute CPUID once."""
        for _ in range(ATTEMPTS):
            error = lib.kvm_cpuid_execute(leaf, subleaf, self._out)
            if error == 0:
                return Registers._make(ffi.unpack(self._out, 4))
            if error != errno.EAGAIN:
                _require(error)
        raise ReadError(f"leaf {leaf:#010x} cannot be read: the thread moved to another CPU {ATTEMPTS} times")

    def runs(self, leaves: range) -> list[Run]:
        """Execute CPUID for each leaf in one call, unless the thread moves: then one after the other from there."""
        rows, read = ffi.new("uint32_t[]", 5 * len(leaves)), ffi.new("size_t *")
        used = lib.kvm_cpuid_execute_range(leaves.start, leaves.step, len(leaves), rows, read)
        words, done = ffi.unpack(rows, 5 * used), read[0]
        places = pairwise([*words[4::5], done])
        found = [
            (leaves[place:end], Registers(*words[5 * row : 5 * row + 4])) for row, (place, end) in enumerate(places)
        ]
        return [*found, *one_by_one(self, leaves[done:])]


class PinnedReader:
    """A Reader on one CPU. What it raises says why; which CPU it is, its user knows."""

    __slots__ = ("_mask", "_out", "cpu", "given_up")

    def __init__(self, cpu: int) -> None:
        self.cpu = cpu
        self.given_up = False
        self._mask = _mask({cpu})
        self._out = ffi.new("uint32_t[5]")

    def pin(self) -> None:
        """Move the calling thread to the CPU. Raises ReadError.

        Not os.sched_setaffinity(): it keeps Python's lock while it waits to run on a CPU that may never be free.
        """
        if error := _pin(0, self._mask):
            reason = _PIN_REASONS.get(error, os.strerror(error))
            raise ReadError(reason)

    def __call__(self, leaf: int, subleaf: int) -> Registers:
        """Execute CPUID on the CPU. Raises ReadError if that was given up or moves away every time."""
        for _ in range(ATTEMPTS):
            error = lib.kvm_cpuid_execute(leaf, subleaf, self._out)
            if error == 0:
                *words, where = ffi.unpack(self._out, 5)
                if where == self.cpu:
                    return Registers(*words)
            elif error != errno.EAGAIN:
                _require(error)
            if self.given_up:
                raise ReadError("another task holds it and lets nobody run")
            self.pin()
        raise ReadError(f"the thread was moved away {ATTEMPTS} times")


def _require(error: int) -> None:
    if error == errno.ENOTSUP:
        raise UnavailableError(
            f"CPUID exists on x86 processors only, and this is {platform.machine()}: there is nothing to export here"
        )
    if error == errno.EACCES:
        raise UnavailableError(
            "CPUID faults in this process (arch_prctl ARCH_SET_CPUID): start the exporter without that restriction"
        )
    if error:
        raise UnavailableError(f"CPUID cannot be executed: {os.strerror(error)}")


def _mask(cpus: set[int]) -> bytes:
    """CPU numbers as the kernel's cpumask: bit N of a little-endian number of whole 64-bit words."""
    words = max(cpus) // 64 + 1
    return sum([1 << cpu for cpu in cpus]).to_bytes(words * 8, "little")


def _pin(thread: int, mask: bytes) -> int:
    return lib.kvm_cpuid_pin(thread, mask, len(mask))
