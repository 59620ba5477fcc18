"""``python -m support.drifting_daemon DUMP …``: the daemon on a machine that is what a dump's file says now."""

import argparse
import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvm_exporter import daemon, log
from kvm_exporter.addresses import TcpAddress
from kvm_exporter.baseline_file import BaselineFile
from kvm_exporter.dump import Dump, parse_dump
from kvm_exporter.observation import Observer
from kvm_exporter.reference import ReferenceKeeper, read_boot_id
from kvm_exporter.registers import Reader, Registers
from kvm_exporter.sampler import Limits
from kvm_exporter.sweep import Selection


class DriftingMachine:
    """The CPUs of a dump, read anew from its file: the CPUs at each scrape, their leaves at each reading."""

    visit: object | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._online: tuple[int, ...] = ()
        self._read: Dump = self._now()

    def online(self) -> tuple[int, ...]:
        """The CPUs of the dump as it is now; the same object until they change."""
        online = self._now().online()
        if online != self._online:
            self._online = online
        return self._online

    def isolated(self) -> frozenset[int]:
        """None."""
        return frozenset()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A sample is of one state of the file, or of two where it is taken twice."""
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
        return parse_dump(self._path.read_bytes())


def main() -> None:
    """Serve on a free port; the log is JSON, and RUNTIME_DIRECTORY is what it is to the real program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dump", type=Path)
    parser.add_argument("--max-age", type=float, required=True)
    parser.add_argument("--baseline", type=Path)
    arguments = parser.parse_args()
    log.configure("info", "json")
    directory = os.environ.get("RUNTIME_DIRECTORY")
    keeper = ReferenceKeeper(Path(directory) if directory else None, read_boot_id())
    machine = DriftingMachine(arguments.dump)
    # Nothing is known of this machine's kernel: another root has no /proc.
    observer = Observer(machine, Selection(), keeper, host=False, root=arguments.dump.parent)
    options = daemon.Options(addresses=[TcpAddress("127.0.0.1", 0)], limits=Limits(max_age=arguments.max_age))
    baseline = BaselineFile(arguments.baseline) if arguments.baseline is not None else None
    asyncio.run(daemon.serve(options, machine, observer.observe, baseline))


if __name__ == "__main__":
    main()
