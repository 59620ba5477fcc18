"""The cost of a scrape by the number of CPUs, against a bare server that sends the same bytes."""

import gzip
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.effort import Effort
from benchmarks.figures import Figure
from benchmarks.many_cpus import ManyCpus
from benchmarks.programs import bare_server, free_port, running
from benchmarks.scrapes import ask_often, cpus, latencies
from benchmarks.sweeper import timed
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.metrics.exposition import Body
from kvm_exporter.metrics.machine import machine_families
from kvm_exporter.metrics.negotiation import Format
from lab.proc import memory

MILLISECONDS = 1000
"""Milliseconds in a second."""

RENDERINGS = 5


def measure(effort: Effort) -> Iterator[Figure]:
    """Yield the figures for each number of CPUs."""
    for count in effort.cpus:
        yield from of_size(count, effort)


def of_size(count: int, effort: Effort) -> Iterator[Figure]:
    """Yield the figures of a daemon with ``count`` CPUs, against a bare server with the same body."""
    with ExitStack() as stack:
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.many_cpus", str(port), str(count)]
        ours = stack.enter_context(running(command, port, environment=dict(os.environ)))
        file = effort.folder / f"body-{count}"
        file.write_bytes(ours.get())
        port = free_port()
        bare = stack.enter_context(running(bare_server(port, file), port, f"/{file.name}"))
        mine, theirs = ask_often([ours, bare], effort)
        resident = memory(ours)
    body = gzip.decompress(file.read_bytes())
    series = sum(not line.startswith(b"#") for line in body.splitlines())
    end = f"of_{count}_cpus"
    yield Figure(
        f"scrape_beyond_bytes_{end}", [a - b for a, b in zip(latencies(mine), latencies(theirs), strict=True)], "µs"
    )
    yield Figure(f"scrape_cpu_beyond_bytes_{end}", [a - b for a, b in zip(cpus(mine), cpus(theirs), strict=True)], "µs")
    yield Figure(f"scrape_p50_{end}", latencies(mine), "µs")
    yield Figure(f"render_{end}", render_times(count), "ms")
    yield Figure(f"resident_{end}", [resident], "MiB")
    yield Figure(f"series_{end}", [series], "", target=110 + 2 * count)
    yield Figure(f"bytes_{end}", [len(body)], "B")
    yield Figure(f"gzip_bytes_{end}", [file.stat().st_size], "B")


def render_times(count: int) -> list[float]:
    """Return the milliseconds to render and compress the body of a new sample, several times."""
    sample = sweep(ManyCpus(count), CpuSelection(), None)
    return [
        timed(lambda: Body(machine_families(sample)).gzip(Format.OPENMETRICS_1_0_0)).time * MILLISECONDS
        for _ in range(RENDERINGS)
    ]
