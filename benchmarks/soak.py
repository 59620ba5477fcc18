"""``python -m benchmarks.soak``: run the exporter under load for a long time, with changes and misbehaving peers.

The load is scrapes at a steady rate over TLS with a password. The leaves change every second, the certificate or the
web configuration every few seconds, and some peers are slow or silent. The exit code is 1 if a scrape failed, if the
number of descriptors or the memory grew, or if the log has an error.
"""

import argparse
import json
import re
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from benchmarks.load import LOGIN, SCRAPERS, SCRAPES_PER_SECOND, Load
from benchmarks.slow_peers import visit_slowly
from benchmarks.turnover import Turnover
from kvm_exporter.app.flags import parse_duration
from lab.exporter import UNMEASURED, Exporter
from lab.patience import PATIENCE_SECONDS
from lab.proc import memory, sockets, wait_until
from lab.scrape import Scrape
from lab.secure import ask
from lab.tree import REPOSITORY

UNIT = REPOSITORY / "packaging" / "systemd" / "prometheus-kvm-exporter.service"

MOST_GROWTH = 3.0
"""The maximum growth of resident memory in the second half, in MB: malloc keeps a varying amount. Pools fill before."""

LEAST_RATE = 0.9
"""The minimum share of the scrapes that were due."""

OWN_SOCKETS = 3
"""The number of sockets without connections: the listening socket, and two of the event loop."""


def every(seconds: float, stop: threading.Event, *jobs: Callable[[], object]) -> None:
    """Run one of the jobs in turn every ``seconds`` seconds until ``stop`` is set."""
    due, number = time.monotonic(), 0
    while not stop.wait(max(due - time.monotonic(), 0)):
        jobs[number % len(jobs)]()
        due, number = due + seconds, number + 1


@dataclass(frozen=True, slots=True)
class Soaked:
    """The result of a soak."""

    #: The duration of the soak.
    seconds: float
    #: The duration of each scrape in seconds.
    times: list[float]
    #: The reason of each failed scrape.
    failures: list[str]
    #: The number of open descriptors before the first connection and after the last.
    descriptors: tuple[int, int]
    #: Resident memory in MB, every second.
    memory: list[float]
    #: The number of changes that the exporter counted.
    changes: int
    #: The number of new certificates and configurations.
    reloads: int
    #: The number of misbehaving peers.
    peers: int
    #: The errors in the log.
    errors: list[str]
    #: The exit code of the exporter.
    code: int


def soak(seconds: float, folder: Path) -> Soaked:
    """Run an exporter under load for ``seconds`` seconds; return the result."""
    turnover = Turnover(folder)
    context = ssl.create_default_context(cafile=str(turnover.authority))
    stop = threading.Event()
    environment = {**UNMEASURED, **unit_environment()}
    with turnover.host.daemon(f"--web-config={turnover.config}", max_age=1, environment=environment) as running:
        ask(running.port, context=context, login=LOGIN)
        wait_until(lambda: sockets(running) <= OWN_SOCKETS)
        before = descriptors(running)
        load, peers = Load(running.port, context, stop), visit_slowly(running.port, context)
        jobs: list[Callable[[], object]] = [load.run] * SCRAPERS
        jobs.append(lambda: every(1, stop, turnover.migrate))
        jobs.append(lambda: every(3, stop, turnover.renew_certificate, turnover.reconfigure))
        jobs.append(lambda: every(0.5, stop, lambda: next(peers)))
        with ThreadPoolExecutor(len(jobs)) as pool:
            futures = [pool.submit(job) for job in jobs]
            try:
                used = list(watched(running, seconds, lambda: any(future.done() for future in futures)))
            finally:
                stop.set()
            for future in futures:
                future.result(PATIENCE_SECONDS)
        arrived = next(peers)
        peers.close()
        scrape = Scrape(ask(running.port, context=context, login=LOGIN).body)
        with suppress(AssertionError):  # the verdict says so
            wait_until(lambda: sockets(running) <= OWN_SOCKETS)
        after = descriptors(running)
        code = running.stop()
    return Soaked(
        seconds=seconds,
        times=load.times,
        failures=load.failures,
        descriptors=(before, after),
        memory=used,
        changes=int(scrape.value("kvm_exporter_sample_changes_total")),
        reloads=turnover.certificates + turnover.configurations,
        peers=arrived,
        errors=[line for line in running.log if json.loads(line)["level"] == "error"],
        code=code,
    )


def unit_environment() -> dict[str, str]:
    """Return the environment that the shipped unit sets, which affects how malloc returns memory."""
    return dict(re.findall(r"^Environment=(\w+)=(\S*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE))


def watched(running: Exporter, seconds: float, ended: Callable[[], bool]) -> Iterator[float]:
    """Yield the resident memory in MB every second, until the time is over or ``ended`` returns true."""
    start = time.monotonic()
    while (now := time.monotonic()) < start + seconds and not ended():
        yield memory(running)
        time.sleep(min(1, start + seconds - now))


def descriptors(running: Exporter) -> int:
    """Return the number of open descriptors of the exporter."""
    return sum(1 for _ in Path(f"/proc/{running.process.pid}/fd").iterdir())


def summary(soaked: Soaked) -> str:
    """Return a summary in a few lines."""
    milliseconds = [took * 1000 for took in soaked.times] or [0.0]
    percentiles = quantiles(milliseconds, n=100, method="inclusive") if len(milliseconds) > 1 else milliseconds * 99
    first, last = ends(soaked.memory)
    return (
        f"{len(soaked.times)} scrapes in {soaked.seconds:g} s, {len(soaked.failures)} failed; "
        f"p50 {percentiles[49]:.1f} ms, p99 {percentiles[98]:.1f} ms, slowest {max(milliseconds):.1f} ms\n"
        f"{soaked.changes} changes of the sample, {soaked.reloads} of the web configuration, {soaked.peers} peers\n"
        f"descriptors: {soaked.descriptors[0]} first, {soaked.descriptors[1]} last\n"
        f"resident: {first:.1f} MB first, {last:.1f} MB last; in tenths of the time: {course(soaked.memory)}\n"
        f"{len(soaked.errors)} errors in the log, exit code {soaked.code}\n"
    )


def complaints(soaked: Soaked) -> Iterator[str]:
    """Yield a line for each failed expectation."""
    if soaked.failures:
        yield f"scrapes failed, the first with {soaked.failures[0]}"
    if len(soaked.times) < soaked.seconds * SCRAPES_PER_SECOND * LEAST_RATE:
        yield f"the exporter could not keep up: only {len(soaked.times)} scrapes"
    if soaked.descriptors[1] > soaked.descriptors[0]:
        yield "descriptors are still open at the end"
    first, last = ends(soaked.memory[len(soaked.memory) // 2 :])
    if last - first > MOST_GROWTH:
        yield f"memory grew by {last - first:.1f} MB in the second half"
    if soaked.changes < soaked.seconds / 4:
        yield f"the exporter counted only {soaked.changes} changes of the sample in {soaked.seconds:g} s"
    if soaked.errors:
        yield f"the log has errors, the first is {soaked.errors[0]}"
    if soaked.code:
        yield f"the exporter exited with {soaked.code}"


def course(values: Sequence[float]) -> str:
    """Return ten of the values at equal intervals: a leak continues to grow, a pool is full at some time."""
    return " ".join(f"{values[len(values) * place // 10]:.1f}" for place in range(10)) if values else "none"


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the medians of the first and of the last fifth."""
    fifth = max(len(values) // 5, 1)
    return median(values[:fifth]), median(values[-fifth:])


def main() -> int:
    """Run the soak and print the result; return the exit code."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--duration", type=parse_duration, default=600.0, help="such as 2m (default: 10m)")
    with tempfile.TemporaryDirectory() as folder:
        soaked = soak(parser.parse_args().duration, Path(folder))
    sys.stdout.write(summary(soaked))
    wrong = list(complaints(soaked))
    sys.stderr.write("".join(f"soak: {complaint}\n" for complaint in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
