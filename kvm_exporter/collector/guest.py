"""Reads the evidence of which paravirtual features the guest kernel uses from /proc, /sys and /boot; see in_use.py.

Source: the kernel's Documentation/filesystems/proc.rst, Documentation/ABI/testing/sysfs-devices-system-cpu and
Documentation/admin-guide/kernel-parameters.txt.
"""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from kvm_exporter.cpuid.cpulist import parse_cpu_list

_COUNT = re.compile(r"[0-9]{1,20}")
"""A decimal counter of up to 64 bits."""

_MAX_CHARACTERS = 1 << 18
"""Longest line to read: twice that of /proc/interrupts with 8,192 CPUs. The kernel writes no longer line."""

_MAX_CONFIGURATION_BYTES = 1 << 20
"""Longest kernel configuration to read: four times Debian's."""

_SEV_SNP = Path("sys/devices/system/cpu/sev/vmpl")
"""A file that only a guest under SEV-SNP has, from Linux 6.11 on."""

_RELEASE = re.compile(r"([0-9]{1,5})\.([0-9]{1,5})[\w.+~-]*", re.ASCII)
"""A kernel release, such as ``6.1.0-50-cloud-amd64``, with its version."""

COMMAND_LINE = "proc/cmdline"
CPU_INFO = "proc/cpuinfo"
STAT = "proc/stat"
INTERRUPTS = "proc/interrupts"
RELEASE = "proc/sys/kernel/osrelease"
AVAILABLE_CLOCKSOURCES = "sys/devices/system/clocksource/clocksource0/available_clocksource"
CURRENT_CLOCKSOURCE = "sys/devices/system/clocksource/clocksource0/current_clocksource"
CPUIDLE_DRIVER = "sys/devices/system/cpu/cpuidle/current_driver"
POSSIBLE_CPUS = "sys/devices/system/cpu/possible"
CONFIGURATION = "proc/config.gz"
"""The kernel's configuration, if it was built with CONFIG_IKCONFIG_PROC; else see ``configuration_in_boot``."""

ALWAYS_THERE = (COMMAND_LINE, CPU_INFO, STAT, RELEASE, CURRENT_CLOCKSOURCE, POSSIBLE_CPUS)
"""Files that every x86 kernel has, and that are never empty: a restricted /proc or /sys hides them."""


def configuration_in_boot(release: str) -> str:
    """Return where distributions put the configuration of a kernel."""
    return f"boot/config-{release}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Facts about the guest kernel; each is None if it could not be read."""

    #: The names of the clocksources that the kernel has registered.
    available_clocksources: frozenset[str] | None = None
    current_clocksource: str | None = None
    #: The names of the parameters on the kernel's command line, with ``-`` for ``_``; without those for init.
    parameters: frozenset[str] | None = None
    #: Steal time since boot, summed over all CPUs, in ticks of USER_HZ: proc(5).
    steal_ticks: int | None = None
    #: Hypervisor callback interrupts since boot, summed over all CPUs: the HYP line of /proc/interrupts.
    hypervisor_interrupts: int | None = None
    cpuidle_driver: str | None = None
    #: The flags of the first CPU in /proc/cpuinfo.
    cpu_flags: frozenset[str] | None = None
    #: True under SEV-SNP, where the kernel answers CPUID from a table that was measured at launch: snp_cpuid().
    sev_snp: bool = False
    #: How many CPUs can ever be online.
    possible_cpus: int | None = None
    #: The kernel's release, such as ``6.1.0-50-cloud-amd64``.
    release: str | None = None
    #: Whether the kernel was built with CONFIG_PARAVIRT_SPINLOCKS.
    has_pv_spinlocks: bool | None = None
    #: Files that every kernel has and that could not be read, by their names under the root.
    unread: tuple[str, ...] = ()

    @property
    def version(self) -> tuple[int, int] | None:
        """The first two numbers of the release; None without a release."""
        match = _RELEASE.fullmatch(self.release or "")
        return (int(match[1]), int(match[2])) if match is not None else None


def read_evidence(root: Path = Path("/"), known: Evidence | None = None) -> Evidence:
    """Read the evidence from the files under ``root``. Never raises.

    What ``known``, earlier evidence of the same kernel, has of its configuration is not read again.
    """
    available = _read(root / AVAILABLE_CLOCKSOURCES)
    command_line = _read(root / COMMAND_LINE)
    release = _word(root / RELEASE)
    release = release if release is not None and _RELEASE.fullmatch(release) else None
    has_pv_spinlocks = known.has_pv_spinlocks if known is not None else None
    return Evidence(
        available_clocksources=frozenset(available.split()) if available is not None else None,
        current_clocksource=_word(root / CURRENT_CLOCKSOURCE),
        parameters=_kernel_parameters(command_line) if command_line is not None else None,
        steal_ticks=_steal_ticks(root / STAT),
        hypervisor_interrupts=_hypervisor_interrupts(root / INTERRUPTS),
        cpuidle_driver=_word(root / CPUIDLE_DRIVER),
        cpu_flags=_cpu_flags(root / CPU_INFO),
        possible_cpus=_cpu_count(root / POSSIBLE_CPUS),
        release=release,
        has_pv_spinlocks=_pv_spinlocks(root, release) if has_pv_spinlocks is None else has_pv_spinlocks,
        sev_snp=_word(root / _SEV_SNP) is not None,
        # A byte of each is enough: /proc/cpuinfo grows with the CPUs.
        unread=tuple(name for name in ALWAYS_THERE if not _bytes(root / name, 1)),
    )


def _read(path: Path) -> str | None:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(_MAX_CHARACTERS)
    except OSError:
        return None


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
    """Return the names of the parameters for the kernel: those before ``--``; the others are for init.

    The kernel treats ``_`` and ``-`` in a name as equal, and ignores the value of a switch: parse_args().
    """
    words = command_line.split()
    words = words[: words.index("--")] if "--" in words else words
    return frozenset(word.partition("=")[0].replace("_", "-") for word in words)


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


def _cpu_count(path: Path) -> int | None:
    """Return the number of CPUs in a list such as ``0-3``; None for an empty list, or a text that is not a list."""
    try:
        return len(parse_cpu_list(_read(path) or "")) or None
    except ValueError:
        return None


def _pv_spinlocks(root: Path, release: str | None) -> bool | None:
    """Return whether the kernel's configuration has CONFIG_PARAVIRT_SPINLOCKS; None if no file has a word on it."""
    texts = [_inflated(_bytes(root / CONFIGURATION))]
    if release is not None:
        texts.append(_bytes(root / configuration_in_boot(release)))
    for text in texts:
        lines = text.splitlines()
        if b"CONFIG_PARAVIRT_SPINLOCKS=y" in lines:
            return True
        if b"# CONFIG_PARAVIRT_SPINLOCKS is not set" in lines:
            return False
    return None


def _bytes(path: Path, limit: int = _MAX_CONFIGURATION_BYTES) -> bytes:
    """Return the first ``limit`` bytes of a file at most; none if it is empty or cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError:
        return b""


def _inflated(content: bytes) -> bytes:
    """Return what a file in gzip's format holds; empty if it is not one."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, _MAX_CONFIGURATION_BYTES)
    except zlib.error:
        return b""
