"""The four registers that CPUID fills, and the function type that fills them. Knows no leaf and no machine."""

from collections.abc import Callable
from typing import NamedTuple


class Registers(NamedTuple):
    """What one execution of CPUID returned: four unsigned 32-bit words."""

    eax: int
    ebx: int
    ecx: int
    edx: int


#: Executes CPUID, or answers from a dump: (leaf, subleaf) → registers.
Reader = Callable[[int, int], Registers]


class ReadError(Exception):
    """A leaf could not be read; the message says which, where and why."""


class UnavailableError(ReadError):
    """No leaf can be read in this process, now or later."""
