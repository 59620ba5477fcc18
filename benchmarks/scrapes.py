"""The cost of a response of the exporter, node_exporter, nginx with the same bytes, and a bare server.

One client sends requests to all of them in turn, so that between two requests to one server the others use the CPU's
caches, as other programs do between two real scrapes.
"""

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from benchmarks.effort import Effort
from benchmarks.figures import Figure, ratios
from benchmarks.programs import Program, bare_server, compiled, exporter, free_port, nginx, node_exporter, running

MICROSECOND = 1000
"""Nanoseconds in a microsecond."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The result of many requests to one server."""

    #: CPU time of the server for each request, in microseconds.
    cpu: float
    #: Median latency, in microseconds.
    p50: float
    #: Bytes of one response on the wire.
    size: int


def ask(targets: Sequence[Program], effort: Effort) -> list[Asked]:
    """Send requests to the targets in turn, ``effort.requests`` to each; return the result of each target."""
    client = compiled("client", effort.folder)
    command = [str(client), str(effort.requests), *(program.target for program in targets)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = ([int(word) for word in line.split()] for line in output.splitlines())
    return [Asked(cpu / effort.requests / MICROSECOND, median(took) / MICROSECOND, size) for cpu, size, *took in rows]


def ask_often(targets: Sequence[Program], effort: Effort) -> list[list[Asked]]:
    """Return the results of all rounds, for each target. The first round is for warming up and does not count."""
    rounds = [ask(targets, effort) for _ in range(effort.rounds + 1)]
    return [list(asked) for asked in zip(*rounds[1:], strict=True)]


def measure(effort: Effort) -> Iterator[Figure]:
    """Yield latencies and CPU times, as ratios and in microseconds."""
    with ExitStack() as stack:
        ours, node = (
            stack.enter_context(running(command(port), port))
            for command, port in ((exporter, free_port()), (node_exporter, free_port()))
        )
        file = effort.folder / "body"
        file.write_bytes(ours.get())
        static, bare = (
            stack.enter_context(running(command(port, file), port, f"/{file.name}"))
            for command, port in ((nginx, free_port()), (bare_server, free_port()))
        )
        names = ("exporter", "node_exporter", "nginx", "bare_loop")
        asked = dict(zip(names, ask_often([ours, node, static, bare], effort), strict=True))
    mine = asked["exporter"]
    targets = {"node_exporter": (0.2, 0.2), "nginx": (2.5, None), "bare_loop": (None, None)}
    for name, (p50, cpu) in targets.items():
        yield Figure(f"scrape_p50_vs_{name}", ratios(latencies(mine), latencies(asked[name])), target=p50)
        yield Figure(f"scrape_cpu_vs_{name}", ratios(cpus(mine), cpus(asked[name])), target=cpu)
    for name, rounds in asked.items():
        yield Figure(f"scrape_p50_of_{name}", latencies(rounds), "µs")
        yield Figure(f"scrape_cpu_of_{name}", cpus(rounds), "µs")
        yield Figure(f"scrape_bytes_of_{name}", [rounds[-1].size], "B")


def latencies(rounds: Iterable[Asked]) -> list[float]:
    """Return the median latency of each round, in microseconds."""
    return [asked.p50 for asked in rounds]


def cpus(rounds: Iterable[Asked]) -> list[float]:
    """Return the CPU time for each request of each round, in microseconds."""
    return [asked.cpu for asked in rounds]
