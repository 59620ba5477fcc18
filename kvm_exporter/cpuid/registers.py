"""The four registers that CPUID fills, and the function type that fills them. Knows no leaf and no machine."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable


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


class ReadError(Exception):
    """A leaf could not be read; the message says which, where and why."""


class UnavailableError(ReadError):
    """No leaf can be read in this process, now or later."""
