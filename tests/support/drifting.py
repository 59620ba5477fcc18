"""A machine whose leaves a test changes while the daemon runs on it: the daemon finds them in a dump's file."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from kvm_exporter.dump import Dump, Rows, format_dump
from support.exporter import Exporter, exporter

TESTS = Path(__file__).parents[1]

EAGER = 1e-6
"""Seconds: every scrape finds the sample too old."""

LAZY = 0
"""No scrape does."""


class DriftingHost:
    """Has a guest, and a folder for its dump and for what is kept across restarts of the daemon."""

    def __init__(self, folder: Path, cpus: Mapping[int, Rows]) -> None:
        self._dump = folder / "now.txt"
        self.runtime_directory = folder / "run"
        self.runtime_directory.mkdir()
        self.change(cpus)

    def change(self, cpus: Mapping[int, Rows]) -> None:
        """From now on the guest has these CPUs with these leaves, all at once."""
        new = self._dump.with_suffix(".new")
        new.write_text(format_dump(Dump(cpus)))
        new.replace(self._dump)

    def daemon(
        self, *, max_age: float = EAGER, baseline: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Exporter]:
        """The daemon in the guest; it is stopped at the end."""
        program = [sys.executable, "-m", "support.drifting_daemon", str(self._dump), f"--max-age={max_age:f}"]
        if baseline is not None:
            program.append(f"--baseline={baseline}")
        own = {"PYTHONPATH": str(TESTS), "RUNTIME_DIRECTORY": os.fspath(self.runtime_directory)}
        return exporter(program=program, environment={**own, **(environment or {})})


def logged(running: Exporter, message_id: str) -> Iterator[dict[str, str]]:
    """What the daemon has logged so far under a MESSAGE_ID."""
    for line in tuple(running.log):
        record = json.loads(line)
        if record.get("message_id") == message_id:
            yield record
