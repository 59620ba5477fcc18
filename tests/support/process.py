"""A running exporter from outside: what it has open, how much memory it takes, and what it complained of."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from support.exporter import Exporter


def errors(running: Exporter) -> list[str]:
    """What went wrong, as its log says."""
    return [line for line in running.log if "level=error" in line or "Traceback" in line]


def sockets(running: Exporter) -> int:
    """How many it has."""
    folder = f"/proc/{running.process.pid}/fd"
    found = 0
    for name in os.listdir(folder):  # noqa: PTH208 - some are gone before they are looked at
        with suppress(FileNotFoundError):
            found += os.readlink(f"{folder}/{name}").startswith("socket:")  # noqa: PTH115 - likewise
    return found


def memory(running: Exporter, field: str = "VmRSS") -> float:
    """Its memory in megabytes: now, or with VmHWM at most."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) / 1024


def wait_until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for what nothing announces."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
