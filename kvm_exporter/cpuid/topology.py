"""Reads from sysfs which CPUs of a machine are online and which are isolated.

Source: the kernel's Documentation/ABI/testing/sysfs-devices-system-cpu and Documentation/admin-guide/cputopology.rst.
"""

import errno
import os
from pathlib import Path

from kvm_exporter.cpuid.cpulist import parse_cpu_list
from kvm_exporter.errors import ReadError

_CPUS = Path("sys/devices/system/cpu")


#: The kernel writes at most one page into such a file, and truncates a longer list: cpumap_print_to_pagebuf().
_PAGE_BYTES = 4096


class Topology:
    """The CPUs of the machine whose ``/sys`` is under ``root``. Raises ReadError if sysfs is not mounted there."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._folder = root / _CPUS
        self._path = self._folder / "online"
        self._known: tuple[bytes, tuple[int, ...]] = b"", ()
        self._isolated: frozenset[int] = frozenset()
        try:
            # It stays open until the process ends.
            self._descriptor = os.open(self._path, os.O_RDONLY)
        except OSError as error:
            raise ReadError(f"{self._path}: {error.strerror}; is /sys mounted?") from error

    def online(self) -> tuple[int, ...]:
        """Return the numbers of the online CPUs, ascending.

        Each scrape calls this, so it costs one pread(2) on a descriptor that stays open. Raises ReadError if the file
        cannot be read or parsed.
        """
        known_text, cpus = self._known
        try:
            text = os.pread(self._descriptor, _PAGE_BYTES, 0)
            if text != known_text or _is_truncated(text):
                cpus = _parse(text)
                if cpus and _is_truncated(text):
                    cpus = self._online_one_by_one()
                self._known = text, cpus
        except OSError as error:
            raise ReadError(f"{error.filename or self._path}: {error.strerror}") from error
        except ValueError as error:
            raise ReadError(f"{self._path}: {error}") from error
        if not cpus:
            raise ReadError(f"{self._path}: lists no CPU")
        return cpus

    def possible(self) -> frozenset[int]:
        """The CPUs that can ever be online; empty if the kernel does not say."""
        try:
            return frozenset(_parse_or_empty(_first_page(self._folder / "possible")))
        except OSError:
            return frozenset()

    def isolated(self) -> frozenset[int]:
        """Return the CPUs that are listed in ``isolated`` or ``nohz_full``.

        A file that is missing or cannot be read or parsed counts as empty. If no file descriptor is left to open the
        files, the previous result is returned.
        """
        try:
            texts = [_first_page(self._folder / name) for name in ("isolated", "nohz_full")]
        except OSError:
            return self._isolated
        self._isolated = frozenset(cpu for text in texts for cpu in _parse_or_empty(text))
        return self._isolated

    def _online_one_by_one(self) -> tuple[int, ...]:
        """Return the numbers of the online CPUs from the directory of each CPU. Raises OSError."""
        numbers = (name.removeprefix("cpu") for name in os.listdir(self._folder))  # noqa: PTH208 - thousands of names
        return tuple(cpu for cpu in sorted(int(number) for number in numbers if number.isdecimal()) if self._is_up(cpu))

    def _is_up(self, cpu: int) -> bool:
        try:
            with (self._folder / f"cpu{cpu}" / "online").open("rb") as file:
                return file.read(2) == b"1\n"
        except FileNotFoundError:
            return True  # a CPU without this file cannot be taken offline


def _first_page(path: Path) -> bytes:
    """Return the first page of a file; empty if it cannot be read. Raises OSError if no descriptor is left."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(_PAGE_BYTES)
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            raise
        return b""


def _parse_or_empty(text: bytes) -> tuple[int, ...]:
    try:
        return _parse(text)
    except ValueError:
        return ()


def _parse(text: bytes) -> tuple[int, ...]:
    """Return the CPUs in a file's first page. A truncated list loses its last entry, which may be incomplete."""
    return parse_cpu_list((text.rpartition(b",")[0] if _is_truncated(text) else text).decode("ascii", "replace"))


def _is_truncated(text: bytes) -> bool:
    return len(text) >= _PAGE_BYTES - 1 and not text.endswith(b"\n")
