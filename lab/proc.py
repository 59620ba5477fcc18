"""A running process from outside: its sockets, its memory, its logged errors, and its child processes."""

import os
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from lab.exporter import Exporter
from lab.patience import PATIENCE_SECONDS
from lab.scrape import Scrape


class Running(Protocol):
    """Anything that has a process."""

    @property
    def process(self) -> subprocess.Popen[Any]:
        """The process."""
        ...


def errors(running: Exporter) -> list[str]:
    """Return the errors that the exporter has logged."""
    return [line for line in running.log if "level=error" in line or "Traceback" in line]


def sockets(running: Running) -> int:
    """Return the number of open sockets of a process."""
    folder = f"/proc/{running.process.pid}/fd"
    found = 0
    for name in os.listdir(folder):  # noqa: PTH208 - an entry can vanish before readlink()
        with suppress(FileNotFoundError):
            found += os.readlink(f"{folder}/{name}").startswith("socket:")  # noqa: PTH115 - likewise
    return found


def memory(running: Running, field: str = "VmRSS") -> float:
    """Return the resident memory of a process in megabytes; with VmHWM, its peak."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) / 1024


def sleeps(running: Running) -> dict[int, int]:
    """Return the voluntary context switches of each thread: proc(5), voluntary_ctxt_switches."""
    found = {}
    for thread in Path(f"/proc/{running.process.pid}/task").iterdir():
        match = re.search(r"^voluntary_ctxt_switches:\s+([0-9]+)$", (thread / "status").read_text(), re.MULTILINE)
        assert match is not None
        found[int(thread.name)] = int(match[1])
    return found


def wait_until(true: Callable[[], bool]) -> None:
    """Poll until a condition is true. Fails after ``seconds``."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s"
        time.sleep(0.02)


def scrape_until(scrape: Callable[[], Scrape], enough: Callable[[Scrape], bool]) -> Scrape:
    """The first scrape that is enough."""
    scrapes: list[Scrape] = []

    def found() -> bool:
        scrapes.append(scrape())
        return enough(scrapes[-1])

    wait_until(found)
    return scrapes[-1]


def parents() -> dict[int, int]:
    """Return the parent of each live process: proc(5), stat. Zombies are left out."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, parent, *_ = path.read_text().rpartition(")")[2].split()
            if state not in "ZX":
                found[int(path.parent.name)] = int(parent)
    return found


def descendants(process: int) -> set[int]:
    """Return the children of a process, their children, and so on."""
    found, new, known = set[int](), {process}, parents()
    while new:
        new = {child for child, parent in known.items() if parent in new}
        found |= new
    return found
