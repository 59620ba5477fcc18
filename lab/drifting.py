"""A simulated guest whose leaves a test changes while the exporter's daemon runs in it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from lab.exporter import Exporter, exporter
from lab.guest import EAGER, Guest

LAZY = 0
"""A max-age of 0: the age of a sample never makes a scrape take a new one."""


class DriftingHost(Guest):
    """A guest that can run the daemon for the time of a block."""

    def daemon(
        self,
        *flags: str,
        max_age: float = EAGER,
        baseline: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Exporter]:
        """Run the daemon in the guest, and stop it at the end of the block."""
        if baseline is not None:
            flags = (*flags, f"--baseline={baseline}")
        program = self.exporter(*flags, max_age=max_age)
        return exporter(program=program, environment={**self.environment, **(environment or {})})


def logged(running: Exporter, message_id: str) -> Iterator[dict[str, str]]:
    """Yield the log records with a MESSAGE_ID that the daemon has written so far."""
    for line in tuple(running.log):
        record = json.loads(line)
        if record.get("message_id") == message_id:
            yield record
