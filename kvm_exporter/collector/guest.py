"""Evidence of what the guest kernel does with what it is offered, as the kernel shows it. Reads; judges nothing.

Source: the kernel's Documentation/filesystems/proc.rst, Documentation/ABI/testing/sysfs-devices-system-cpu and
Documentation/admin-guide/kernel-parameters.txt.
"""

import re
from dataclasses import dataclass
from pathlib import Path

_COUNT = re.compile(r"[0-9]{1,20}")
"""A counter of 64 bits."""

_MOST_LETTERS = 1 << 18
"""Of one line: twice what the kernel writes into /proc/interrupts for 8,192 CPUs. A longer one is not the kernel's."""

_CLOCKSOURCES = Path("sys/devices/system/clocksource/clocksource0")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What could be read; None where it could not."""

    #: Clocksources that the kernel has registered.
    available_clocksources: frozenset[str] | None = None
    current_clocksource: str | None = None
    #: Switches that the kernel was booted with.
    command_line: frozenset[str] | None = None
    #: Ticks of steal time since boot, over all CPUs.
    steal_ticks: int | None = None
    #: Hypervisor callback interrupts since boot, over all CPUs: the HYP line of /proc/interrupts.
    hypervisor_interrupts: int | None = None
    cpuidle_driver: str | None = None
    #: Flags of the first CPU in /proc/cpuinfo.
    cpu_flags: frozenset[str] | None = None


def read_evidence(root: Path = Path("/")) -> Evidence:
    """Everything that can be read under a root; never raises."""
    available = _read(root / _CLOCKSOURCES / "available_clocksource")
    command_line = _read(root / "proc/cmdline")
    return Evidence(
        available_clocksources=frozenset(available.split()) if available is not None else None,
        current_clocksource=_word(root / _CLOCKSOURCES / "current_clocksource"),
        command_line=_switches(command_line) if command_line is not None else None,
        steal_ticks=_steal_ticks(root / "proc/stat"),
        hypervisor_interrupts=_hypervisor_interrupts(root / "proc/interrupts"),
        cpuidle_driver=_word(root / "sys/devices/system/cpu/cpuidle/current_driver"),
        cpu_flags=_cpu_flags(root / "proc/cpuinfo"),
    )


def _read(path: Path) -> str | None:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(_MOST_LETTERS)
    except OSError:
        return None


def _word(path: Path) -> str | None:
    """A file of one word; an empty one says nothing."""
    return (_read(path) or "").strip() or None


def _line(path: Path, start: str) -> str | None:
    """The rest of the first line of a file that begins so, after white space; reads no further than that line."""
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            while 0 < len(line := file.readline(_MOST_LETTERS)) < _MOST_LETTERS:
                if (text := line.strip()).startswith(start):
                    return text.removeprefix(start)
    except OSError:
        pass
    return None


def _switches(command_line: str) -> frozenset[str]:
    """The kernel's own words of its command line: those after ``--`` are for init."""
    words = command_line.split()
    return frozenset(words[: words.index("--")] if "--" in words else words)


def _steal_ticks(path: Path) -> int | None:
    """The eighth number of the line ``cpu``: user nice system idle iowait irq softirq steal."""
    numbers = (_line(path, "cpu ") or "").split()
    return int(numbers[7]) if len(numbers) > 7 and _COUNT.fullmatch(numbers[7]) else None  # noqa: PLR2004 - see above


def _hypervisor_interrupts(path: Path) -> int | None:
    line = _line(path, "HYP:")
    return sum(int(word) for word in line.split() if _COUNT.fullmatch(word)) if line is not None else None


def _cpu_flags(path: Path) -> frozenset[str] | None:
    line = _line(path, "flags")
    return frozenset(line.partition(":")[2].split()) if line is not None else None
