"""Which CPUs there are: online, isolated, and how the kernel writes lists of them. Knows no CPUID.

Source: the kernel's Documentation/ABI/testing/sysfs-devices-system-cpu and Documentation/admin-guide/cputopology.rst.
"""

import os
from pathlib import Path

from kvm_exporter.cpuid.cpulist import parse_cpu_list
from kvm_exporter.errors import ReadError

_CPUS = Path("sys/devices/system/cpu")


#: The kernel never writes more than a page into one of these files; it cuts a longer list: cpumap_print_to_pagebuf().
_PAGE_BYTES = 4096


class Topology:
    """The CPUs of the machine whose ``/sys`` lies under ``root``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._folder = root / _CPUS
        self._online_file = _KeptFile(self._folder / "online")
        self._isolated_files = [_KeptFile(self._folder / name) for name in ("isolated", "nohz_full")]
        self._known: tuple[bytes, tuple[int, ...]] = b"", ()
        self._known_isolated: tuple[list[bytes], frozenset[int]] = [], frozenset()
        try:
            self._online_file.open()
        except OSError as error:
            raise ReadError(f"{self._online_file.path}: {error.strerror}; is /sys mounted?") from error

    def close(self) -> None:
        """Give the descriptors back."""
        for file in (self._online_file, *self._isolated_files):
            file.close()

    def online(self) -> tuple[int, ...]:
        """The numbers of the online CPUs, ascending; the same object until they change.

        Raises ReadError if the file cannot be read, says none, or says nonsense.
        """
        known_text, cpus = self._known
        try:
            text = self._online_file.read()
            if text != known_text or _is_cut(text):
                found = _parse(text)
                if found and _is_cut(text):
                    found = self._online_one_by_one()
                cpus = cpus if found == cpus else found
                self._known = text, cpus
        except OSError as error:
            raise ReadError(f"{error.filename or self._online_file.path}: {error.strerror}") from error
        except ValueError as error:
            raise ReadError(f"{self._online_file.path}: {error}") from error
        if not cpus:
            raise ReadError(f"{self._online_file.path}: names no CPU")
        return cpus

    def isolated(self) -> frozenset[int]:
        """CPUs that are kept free of other work: ``isolated`` and ``nohz_full``, where the files exist."""
        texts = [_read(file) for file in self._isolated_files]
        if texts != self._known_isolated[0]:
            self._known_isolated = texts, frozenset(cpu for text in texts for cpu in _lenient(text))
        return self._known_isolated[1]

    def _online_one_by_one(self) -> tuple[int, ...]:
        """The same from a folder for each CPU. Raises OSError."""
        numbers = (name.removeprefix("cpu") for name in os.listdir(self._folder))  # noqa: PTH208 - thousands of them
        return tuple(cpu for cpu in sorted(int(number) for number in numbers if number.isdecimal()) if self._is_up(cpu))

    def _is_up(self, cpu: int) -> bool:
        try:
            with (self._folder / f"cpu{cpu}" / "online").open("rb") as file:
                return file.read(2) == b"1\n"
        except FileNotFoundError:
            return True  # it cannot be taken offline


class _KeptFile:
    """A file whose descriptor is kept: a pread on it is fresh each time, and costs one system call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def open(self) -> None:
        """Unless it is open already. Raises OSError."""
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDONLY)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self) -> bytes:
        """Its first page. Raises OSError."""
        self.open()
        return os.pread(self._descriptor, _PAGE_BYTES, 0)


def _read(file: _KeptFile) -> bytes:
    """Nothing, where it cannot be read."""
    try:
        return file.read()
    except OSError:
        return b""


def _lenient(text: bytes) -> tuple[int, ...]:
    try:
        return _parse(text)
    except ValueError:
        return ()


def _parse(text: bytes) -> tuple[int, ...]:
    """The CPUs in a file's first page; the last number of a list that was cut may be a part of it, and is left out."""
    return parse_cpu_list((text.rpartition(b",")[0] if _is_cut(text) else text).decode("ascii", "replace"))


def _is_cut(text: bytes) -> bool:
    return len(text) >= _PAGE_BYTES - 1 and not text.endswith(b"\n")
