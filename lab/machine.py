"""A machine as the exporter's daemon reads it: a Source that is what a dump's file says now."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvm_exporter.cpuid.dump import Dump, parse_dump
from kvm_exporter.cpuid.registers import Reader, Registers
from kvm_exporter.errors import InputError, ReadError


class DumpedMachine:
    """The CPUs of a dump, read anew from its file: the CPUs at each scrape, their leaves at each reading."""

    visit: object | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._online: tuple[int, ...] = ()
        self._read = self._now()

    def online(self) -> tuple[int, ...]:
        """The CPUs of the dump as it is now; the same object until they change. Raises ReadError without a dump."""
        online = self._now().online()
        if online != self._online:
            self._online = online
        return self._online

    def isolated(self) -> frozenset[int]:
        """None."""
        return frozenset()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A sample is of one state of the file, or of two where it is taken twice. Raises ReadError without a dump."""
        self._read = self._now()
        yield

    def anywhere(self, leaf: int, subleaf: int) -> Registers:
        """Read on the CPU with the lowest number."""
        return self._read.anywhere(leaf, subleaf)

    def on(self, cpu: int) -> Reader:
        """The Reader of a CPU."""
        return self._read.on(cpu)

    def give_up(self) -> None:
        """Nobody gets stuck here."""

    def _now(self) -> Dump:
        try:
            return parse_dump(self._path.read_bytes())
        except OSError as error:
            raise ReadError(f"{self._path}: {error.strerror}; a machine of the demo needs its dump") from error
        except InputError as error:
            raise ReadError(f"{self._path}: {error}") from error
