"""The four registers that CPUID fills, and the function type that fills them. Knows no leaf and no machine."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, runtime_checkable

HYPERVISOR_BIT = 1 << 31
"""ECX of leaf 1: a hypervisor is present, and the range 0x40000000 is its own."""


BASES = range(0x4000_0000, 0x4001_0000, 0x100)
"""The 256 places where a hypervisor may put its signature."""


class Registers(NamedTuple):
    """What one execution of CPUID returned: four unsigned 32-bit words."""

    eax: int
    ebx: int
    ecx: int
    edx: int


#: Executes CPUID, or answers from a dump: (leaf, subleaf) → registers.
Reader = Callable[[int, int], Registers]


Run = tuple[range, Registers]
"""Leaves, and what each of them says."""


@runtime_checkable
class BulkReader(Protocol):
    """A Reader that takes less time for many leaves than for one after the other."""

    def __call__(self, leaf: int, subleaf: int) -> Registers:
        """Read one."""
        ...

    def runs(self, leaves: range) -> list[Run]:
        """Subleaf 0 of all leaves, in their order."""
        ...


def read_runs(read: Reader, leaves: range) -> list[Run]:
    """Subleaf 0 of all leaves, in their order. Raises what the Reader raises."""
    return read.runs(leaves) if isinstance(read, BulkReader) else one_by_one(read, leaves)


def one_by_one(read: Reader, leaves: range) -> list[Run]:
    """The same, a run for each leaf."""
    return [(leaves[place : place + 1], read(leaf, 0)) for place, leaf in enumerate(leaves)]


class Source(Protocol):
    """Where leaves are read."""

    def online(self) -> tuple[int, ...]:
        """The CPUs that there are, ascending; the same object until they change. Raises ReadError."""
        ...

    def isolated(self) -> frozenset[int]:
        """The CPUs that are better left alone."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """Around all reads of a sample. Raises ReadError."""
        ...

    def anywhere(self, leaf: int, subleaf: int) -> Registers:
        """Read wherever the thread happens to run. Raises ReadError."""
        ...

    def on(self, cpu: int) -> Reader:
        """Return a Reader of one CPU. Raises ReadError, as the Reader may."""
        ...
