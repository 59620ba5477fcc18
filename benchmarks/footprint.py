"""The footprint of the daemon: memory, the time from its start to its first response, and wake-ups when idle."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.figures import Figure, ratios
from benchmarks.programs import exporter, free_port, node_exporter, running
from benchmarks.scrapes import ask
from benchmarks.sweeper import timed
from lab.notifications import notified_exporter
from lab.proc import memory, sleeps

SCRAPES = 1000

WATCHDOG_SECONDS = 60
"""WatchdogSec= of the shipped unit."""

IMPORTS = (
    "ssl",
    "asyncio",
    "http.server",
    "urllib.request",
    "prometheus_client",
    "h11",
    "systemd.daemon",
    "kvm_exporter.app.cli",
)
"""Modules that the daemon imports, ordered so that the memory of each can be measured separately."""

MEASURE_IMPORTS = """
import importlib, sys
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
sizes = [resident()]
for name in sys.argv[1:]:
    importlib.import_module(name)
    sizes.append(resident())
print(*sizes)
"""

Command = Callable[[int], Sequence[str | Path]]


def measure(effort: Effort) -> Iterator[Figure]:
    """Yield the figures of memory, start time and idle wake-ups."""
    commands: dict[str, Command] = {"exporter": exporter, "node_exporter": node_exporter}
    resident: dict[str, list[float]] = {name: [] for name in commands}
    started: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(effort.starts):
        for name, command in commands.items():
            started[name].append(first_answer(command))
            resident[name].append(resident_after_scrapes(command, effort))
    yield Figure("rss_vs_node_exporter", ratios(resident["exporter"], resident["node_exporter"]), target=1.25)
    for name in commands:
        yield Figure(f"rss_of_{name}", resident[name], "MiB")
        yield Figure("start_to_first_scrape" + ("" if name == "exporter" else f"_of_{name}"), started[name], "s")
    yield from imports(effort)
    yield from idleness(effort)


def first_answer(command: Command) -> float:
    """Return the seconds from the start of a process to the end of its first response."""
    port = free_port()

    def start() -> None:
        stack.enter_context(running(command(port), port)).get()

    with ExitStack() as stack:
        return timed(start).time


def resident_after_scrapes(command: Command, effort: Effort) -> float:
    """Return the resident memory in MiB after SCRAPES scrapes."""
    port = free_port()
    with running(command(port), port) as program:
        ask([program], replace(effort, requests=SCRAPES))
        return memory(program)


def imports(effort: Effort) -> Iterator[Figure]:
    """Yield the memory in MiB of a Python that has just started, and that of each import."""
    command = [sys.executable, "-c", MEASURE_IMPORTS, *IMPORTS]
    outputs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(effort.starts)]
    runs = [[int(word) / (1 << 20) for word in output.split()] for output in outputs]
    yield Figure("rss_of_python", [sizes[0] for sizes in runs], "MiB")
    for place, name in enumerate(IMPORTS):
        yield Figure(f"rss_of_import_{name}", [sizes[place + 1] - sizes[place] for sizes in runs], "MiB")


def idleness(effort: Effort) -> Iterator[Figure]:
    """Yield the wake-ups per minute without requests, with the unit's watchdog and without."""
    with ExitStack() as stack:
        exporters = {
            "": stack.enter_context(notified_exporter())[0],
            "_with_watchdog": stack.enter_context(notified_exporter(WATCHDOG_USEC=str(WATCHDOG_SECONDS * 1_000_000)))[
                0
            ],
        }
        time.sleep(min(effort.idle_seconds, 2))
        before = {name: sum(sleeps(running).values()) for name, running in exporters.items()}
        time.sleep(effort.idle_seconds)
        after = {name: sum(sleeps(running).values()) for name, running in exporters.items()}
    for name in exporters:
        yield Figure(f"idle_wakeups_per_minute{name}", [(after[name] - before[name]) * 60 / effort.idle_seconds], "")
