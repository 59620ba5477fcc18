"""Reads from /proc and /sys the evidence of which paravirtual features the guest kernel uses; see in_use.py.

Source: the kernel's Documentation/filesystems/proc.rst, Documentation/ABI/testing/sysfs-devices-system-cpu and
Documentation/admin-guide/kernel-parameters.txt.
"""

import re
from dataclasses import dataclass
from pathlib import Path

_COUNT = re.compile(r"[0-9]{1,20}")
"""A decimal counter of up to 64 bits."""

_MAX_CHARACTERS = 1 << 18
"""Longest line to read: twice that of /proc/interrupts with 8,192 CPUs. The kernel writes no longer line."""

_PAGE_BYTES = 4096

_CLOCKSOURCES = Path("sys/devices/system/clocksource/clocksource0")

_SEV_SNP = Path("sys/devices/system/cpu/sev/vmpl")
"""A file that only a guest under SEV-SNP has, from Linux 6.11 on."""


ALWAYS_THERE = ("proc/cmdline", "proc/cpuinfo", "proc/stat", str(_CLOCKSOURCES / "current_clocksource"))
"""Files that every x86 kernel has, and that are never empty: a restricted /proc or /sys hides them."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Facts about the guest kernel; each is None if it could not be read."""

    #: The names of the clocksources that the kernel has registered.
    available_clocksources: frozenset[str] | None = None
    current_clocksource: str | None = None
    #: The parameters on the kernel's command line, without those for init.
    command_line: frozenset[str] | None = None
    #: Steal time since boot, summed over all CPUs, in ticks of USER_HZ: proc(5).
    steal_ticks: int | None = None
    #: Hypervisor callback interrupts since boot, summed over all CPUs: the HYP line of /proc/interrupts.
    hypervisor_interrupts: int | None = None
    cpuidle_driver: str | None = None
    #: The flags of the first CPU in /proc/cpuinfo.
    cpu_flags: frozenset[str] | None = None
    #: True under SEV-SNP, where the kernel answers CPUID from a table that was measured at launch: snp_cpuid().
    sev_snp: bool = False
    #: Files that every kernel has and that could not be read, by their names under the root.
    unread: tuple[str, ...] = ()


def read_evidence(root: Path = Path("/")) -> Evidence:
    """Read the evidence from /proc and /sys under ``root``. Never raises."""
    available = _read(root / _CLOCKSOURCES / "available_clocksource")
    command_line = _read(root / "proc/cmdline")
    return Evidence(
        available_clocksources=frozenset(available.split()) if available is not None else None,
        current_clocksource=_word(root / _CLOCKSOURCES / "current_clocksource"),
        command_line=_kernel_parameters(command_line) if command_line is not None else None,
        steal_ticks=_steal_ticks(root / "proc/stat"),
        hypervisor_interrupts=_hypervisor_interrupts(root / "proc/interrupts"),
        cpuidle_driver=_word(root / "sys/devices/system/cpu/cpuidle/current_driver"),
        cpu_flags=_cpu_flags(root / "proc/cpuinfo"),
        sev_snp=_word(root / _SEV_SNP) is not None,
        unread=tuple(name for name in ALWAYS_THERE if _is_empty(root / name)),
    )


def _read(path: Path) -> str | None:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(_MAX_CHARACTERS)
    except OSError:
        return None


def _is_empty(path: Path) -> bool:
    """Return whether a file has no content or cannot be read. Reads one page: /proc/cpuinfo grows with the CPUs."""
    try:
        with path.open("rb", buffering=0) as file:
            return not file.read(_PAGE_BYTES)
    except OSError:
        return True


def _word(path: Path) -> str | None:
    """Return the content of a file without surrounding white space; None if the file is empty or cannot be read."""
    return (_read(path) or "").strip() or None


def _line(path: Path, start: str) -> str | None:
    """Return the rest of the first line that starts with ``start``, ignoring white space before it; None without one.

    The file is read up to that line only.
    """
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            while 0 < len(line := file.readline(_MAX_CHARACTERS)) < _MAX_CHARACTERS:
                if (text := line.strip()).startswith(start):
                    return text.removeprefix(start)
    except OSError:
        pass
    return None


def _kernel_parameters(command_line: str) -> frozenset[str]:
    """Return the parameters for the kernel: those before ``--``; the others are for init."""
    words = command_line.split()
    return frozenset(words[: words.index("--")] if "--" in words else words)


def _steal_ticks(path: Path) -> int | None:
    """Return the eighth number of the line ``cpu``: user nice system idle iowait irq softirq steal."""
    numbers = (_line(path, "cpu ") or "").split()
    return int(numbers[7]) if len(numbers) > 7 and _COUNT.fullmatch(numbers[7]) else None  # noqa: PLR2004 - the docstring has the columns


def _hypervisor_interrupts(path: Path) -> int | None:
    line = _line(path, "HYP:")
    return sum(int(word) for word in line.split() if _COUNT.fullmatch(word)) if line is not None else None


def _cpu_flags(path: Path) -> frozenset[str] | None:
    line = _line(path, "flags")
    return frozenset(line.partition(":")[2].split()) if line is not None else None
