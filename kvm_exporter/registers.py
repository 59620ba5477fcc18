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


@runtime_checkable
class BulkReader(Protocol):
    """A Reader that takes less time for many leaves than for one after the other."""

    def __call__(self, leaf: int, subleaf: int) -> Registers:
        """Read one."""
        ...

    def many(self, leaves: range) -> list[Registers]:
        """Subleaf 0 of each leaf."""
        ...


def read_many(read: Reader, leaves: range) -> list[Registers]:
    """Subleaf 0 of each leaf. Raises what the Reader raises."""
    return read.many(leaves) if isinstance(read, BulkReader) else [read(leaf, 0) for leaf in leaves]


class ReadError(Exception):
    """A leaf could not be read; the message says which, where and why."""


class UnavailableError(ReadError):
    """No leaf can be read in this process, now or later."""
