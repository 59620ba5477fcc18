"""A Source for the exporter's daemon that reads its registers from the file of a dump."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvm_exporter.cpuid.dump import Dump, parse_dump
from kvm_exporter.cpuid.registers import Reader, Registers
from kvm_exporter.errors import InputError, ReadError

PVCLOCK = "pvclock"
"""The name of the file beside the dump that has the machine's pvclock page."""


class DumpedMachine:
    """The CPUs of a dump. Each scrape reads the CPU list from the file again, and each reading the leaves."""

    visit: object | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._online: tuple[int, ...] = ()
        self._read = self._now()

    def online(self) -> tuple[int, ...]:
        """Read the list of CPUs; returns the same object until it changes. Raises ReadError if this fails."""
        online = self._now().online()
        if online != self._online:
            self._online = online
        return self._online

    def isolated(self) -> frozenset[int]:
        """No CPU is isolated."""
        return frozenset()

    def allowed(self) -> frozenset[int]:
        """Return the CPUs of the dump."""
        return self._read.allowed()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read the file again, so that one sweep sees one state of it. Raises ReadError if the dump cannot be read."""
        self._read = self._now()
        yield

    def anywhere(self, leaf: int, subleaf: int) -> Registers:
        """Read a leaf on the CPU with the lowest number."""
        return self._read.anywhere(leaf, subleaf)

    def on(self, cpu: int) -> Reader:
        """Return the Reader of a CPU."""
        return self._read.on(cpu)

    def pvclock(self) -> bytes | None:
        """Return the pvclock page beside the dump; None without that file."""
        try:
            return self._path.with_name(PVCLOCK).read_bytes()
        except FileNotFoundError:
            return None

    def unstick(self) -> None:
        """Do nothing: reading a file does not get stuck."""

    def _now(self) -> Dump:
        try:
            return parse_dump(self._path.read_bytes())
        except OSError as error:
            raise ReadError(f"{self._path}: {error.strerror}; a machine of the demo needs its dump") from error
        except InputError as error:
            raise ReadError(f"{self._path}: {error}") from error
