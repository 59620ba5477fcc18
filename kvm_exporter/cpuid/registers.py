"""The four registers that CPUID returns, and the interfaces to read them: Reader, BulkReader and Source.

Source: Intel's Software Developer's Manual, volume 2A, CPUID; the kernel's Documentation/virt/kvm/x86/cpuid.rst.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, runtime_checkable

HYPERVISOR_BIT = 1 << 31
"""Bit of ECX of leaf 1: a hypervisor is present, and it defines the leaves from 0x40000000 on."""


BASES = range(0x4000_0000, 0x4001_0000, 0x100)
"""The 256 bases: the leaves at which a hypervisor may put its signature."""


class Registers(NamedTuple):
    """The result of one execution of CPUID: four unsigned 32-bit words."""

    eax: int
    ebx: int
    ecx: int
    edx: int


#: Reads one (leaf, subleaf), by executing CPUID or from a dump.
Reader = Callable[[int, int], Registers]


Run = tuple[range, Registers]
"""A range of consecutive leaves that all have the same registers, and these registers."""


@runtime_checkable
class BulkReader(Protocol):
    """A Reader that can also read many leaves in one call, which takes less time than one call for each."""

    def __call__(self, leaf: int, subleaf: int) -> Registers:
        """Return the registers of one leaf and subleaf."""
        ...

    def runs(self, leaves: range) -> list[Run]:
        """Read subleaf 0 of all leaves; return it as runs of equal registers, in the order of the leaves."""
        ...


def read_runs(read: Reader, leaves: range) -> list[Run]:
    """Read subleaf 0 of all leaves; return it as runs, in the order of the leaves. Raises what the Reader raises."""
    return read.runs(leaves) if isinstance(read, BulkReader) else one_by_one(read, leaves)


def one_by_one(read: Reader, leaves: range) -> list[Run]:
    """Read subleaf 0 of the leaves with a call for each; return a run for each leaf, in their order."""
    return [(leaves[index : index + 1], read(leaf, 0)) for index, leaf in enumerate(leaves)]


class Source(Protocol):
    """A set of CPUs whose leaves can be read: this machine, or a dump."""

    def online(self) -> tuple[int, ...]:
        """Return the numbers of the online CPUs, ascending. Raises ReadError."""
        ...

    def isolated(self) -> frozenset[int]:
        """Return the isolated CPUs: those that the administrator keeps free of other work."""
        ...

    def allowed(self) -> frozenset[int]:
        """The CPUs that the process may run on, whatever ``online`` says."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """Return the context manager that surrounds all reads of one sample. Raises ReadError."""
        ...

    def anywhere(self, leaf: int, subleaf: int) -> Registers:
        """Read on whichever CPU the thread runs on. Raises ReadError."""
        ...

    def on(self, cpu: int) -> Reader:
        """Return a Reader of one CPU. Raises ReadError, as the Reader does, if the CPU cannot be read."""
        ...

    def pvclock(self) -> bytes | None:
        """Return the 32 bytes in which KVM states what kvm-clock is; None if there are none, or they cannot be read."""
        ...
