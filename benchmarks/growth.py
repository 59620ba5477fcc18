"""The cost of a scrape by the number of CPUs, against a bare server with the same bytes, and what it costs probes."""

import asyncio
import gzip
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from threading import Event, Thread

from benchmarks.effort import Effort
from benchmarks.figures import Figure
from benchmarks.many_cpus import ManyCpus
from benchmarks.programs import Program, bare_server, free_port, running
from benchmarks.scrapes import ask, ask_often, cpus, latencies
from benchmarks.sweeper import timed
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.metrics.exposition import rendered
from kvm_exporter.metrics.machine import machine_families
from kvm_exporter.metrics.negotiation import Format
from lab.proc import memory

MILLISECONDS = 1000
"""Milliseconds in a second."""

RENDERINGS = 5
PROBE_ROUNDS = 5


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
    yield Figure(f"probe_delay_{end}", probe_delays(count, effort), "ms", target=10)
    yield Figure(f"resident_{end}", [resident], "MiB")
    yield Figure(f"series_{end}", [series], "", target=110 + 2 * count)
    yield Figure(f"bytes_{end}", [len(body)], "B")
    yield Figure(f"gzip_bytes_{end}", [file.stat().st_size], "B")


def render_times(count: int) -> list[float]:
    """Return the milliseconds to render and compress the body of a new sample, several times."""
    sample = sweep(ManyCpus(count), CpuSelection(), None)
    return [
        timed(lambda: asyncio.run(rendered(machine_families(sample), Format.OPENMETRICS_1_0_0))).time * MILLISECONDS
        for _ in range(RENDERINGS)
    ]


def probe_delays(count: int, effort: Effort) -> list[float]:
    """Return how much longer the slowest of some probes takes while the exporter samples and renders, in milliseconds.

    Each probe of readiness has a connection of its own. Its exporter takes and renders a sample at every scrape.
    """
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.many_cpus", str(port), str(count), "--resample"]
    delays = []
    with running(command, port, environment=dict(os.environ)) as program:
        program.get()
        for _ in range(PROBE_ROUNDS):
            alone = slowest_probe(port, effort.requests)
            with scraped(program, effort):
                delays.append((slowest_probe(port, effort.requests) - alone) * MILLISECONDS)
    return delays


def slowest_probe(port: int, probes: int) -> float:
    """Return the seconds that the slowest of the probes took."""

    def probe() -> None:
        with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.request("GET", "/-/ready")
            connection.getresponse().read()

    return max(timed(probe).time for _ in range(probes))


@contextmanager
def scraped(program: Program, effort: Effort) -> Iterator[None]:
    """Scrape a program again and again during the block, from another process."""
    end = Event()

    def scrape() -> None:
        while not end.is_set():
            ask([program], replace(effort, requests=1))

    scraper = Thread(target=scrape)
    scraper.start()
    try:
        yield
    finally:
        end.set()
        scraper.join()
