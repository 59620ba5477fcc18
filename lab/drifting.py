"""A machine whose leaves a test changes while the daemon runs on it: a guest of demo/, and its exporter."""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from lab.exporter import Exporter, exporter
from lab.guest import EAGER, Guest

LAZY = 0
"""No scrape finds the sample too old."""


class DriftingHost(Guest):
    """A guest of a test."""

    def daemon(
        self,
        *flags: str,
        max_age: float = EAGER,
        baseline: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Exporter]:
        """The daemon in the guest; it is stopped at the end."""
        if baseline is not None:
            flags = (*flags, f"--baseline={baseline}")
        program = self.exporter(*flags, max_age=max_age)
        return exporter(program=program, environment={**self.environment, **(environment or {})})


def logged(running: Exporter, message_id: str) -> Iterator[dict[str, str]]:
    """What the daemon has logged so far under a MESSAGE_ID."""
    for line in tuple(running.log):
        record = json.loads(line)
        if record.get("message_id") == message_id:
            yield record
