"""Parses and formats CPU lists in the kernel's notation: ``0-3,8``.

Source: the kernel's Documentation/admin-guide/cputopology.rst.
"""

from collections.abc import Iterable


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Return the CPU numbers in a list such as ``0-3,8``, ascending; ``()`` for an empty list or ``(null)``.

    The kernel writes ``(null)`` for an empty list in some files. Raises ValueError if the text is not a CPU list, or
    names a CPU of 1,048,576 or above.
    """
    text = text.strip("\n\0 ")
    if text in {"", "(null)"}:
        return ()
    cpus: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (first.isascii() and first.isdecimal() and (last.isascii() and last.isdecimal() if dash else True)):
            raise ValueError(f"{part!r} is not a CPU or a range of CPUs such as 0-3")
        start, end = int(first), int(last or first)
        if start > end:
            raise ValueError(f"{part!r} is not ascending")
        if end >= _MOST_CPUS:
            raise ValueError(f"{part!r} has a CPU of {_MOST_CPUS:,} or above")
        cpus.update(range(start, end + 1))
    return tuple(sorted(cpus))


def format_cpu_list(cpus: Iterable[int]) -> str:
    """Format CPU numbers as an ascending list in the kernel's notation: ``0-3,8``."""
    numbers = sorted(cpus)
    known = set(numbers)
    starts = (cpu for cpu in numbers if cpu - 1 not in known)
    ends = (cpu for cpu in numbers if cpu + 1 not in known)
    return ",".join(str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))


#: Far above the kernel's largest NR_CPUS (8,192). It limits the memory that a broken file can make this allocate.
_MOST_CPUS = 1 << 20
