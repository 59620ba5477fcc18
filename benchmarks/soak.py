"""``python -m benchmarks.soak``: under load for a long time, while everything changes; nothing may fail, or grow.

Scrapes at a steady rate over TLS with a password, another sample every second, another certificate or configuration
every few seconds, and peers that are slow, silent or gone. It ends with 1 if a scrape failed, if descriptors or memory
grew, or if the log has an error.
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
"""Megabytes that may be resident at the end beyond half-time, until when pools fill: malloc keeps more or less."""

LEAST_RATE = 0.9
"""Of the scrapes that were due."""

OWN_SOCKETS = 3
"""The listening one, and the two ends of the event loop's own."""


def every(seconds: float, stop: threading.Event, *jobs: Callable[[], object]) -> None:
    """Do the jobs in turn, one each time, until it is stopped."""
    due, number = time.monotonic(), 0
    while not stop.wait(max(due - time.monotonic(), 0)):
        jobs[number % len(jobs)]()
        due, number = due + seconds, number + 1


@dataclass(frozen=True, slots=True)
class Soaked:
    """What was seen of it."""

    seconds: float
    #: Seconds of each scrape, and why some failed.
    times: list[float]
    failures: list[str]
    #: Before the first connection, and after the last.
    descriptors: tuple[int, int]
    #: Megabytes, as often as it was looked at.
    memory: list[float]
    #: That the exporter has seen.
    changes: int
    #: Certificates and configurations; and slow peers.
    reloads: int
    peers: int
    errors: list[str]
    code: int


def soak(seconds: float, folder: Path) -> Soaked:
    """Load an exporter for a time."""
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
    """What the shipped unit gives the daemon: how soon malloc gives memory back."""
    return dict(re.findall(r"^Environment=(\w+)=(\S*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE))


def watched(running: Exporter, seconds: float, ended: Callable[[], bool]) -> Iterator[float]:
    """Its memory each second, until it is over."""
    start = time.monotonic()
    while (now := time.monotonic()) < start + seconds and not ended():
        yield memory(running)
        time.sleep(min(1, start + seconds - now))


def descriptors(running: Exporter) -> int:
    """How many it has open."""
    return sum(1 for _ in Path(f"/proc/{running.process.pid}/fd").iterdir())


def summary(soaked: Soaked) -> str:
    """For people."""
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
    """What is wrong."""
    if soaked.failures:
        yield f"scrapes failed, the first with {soaked.failures[0]}"
    if len(soaked.times) < soaked.seconds * SCRAPES_PER_SECOND * LEAST_RATE:
        yield f"{len(soaked.times)} scrapes are too few: it could not keep up"
    if soaked.descriptors[1] > soaked.descriptors[0]:
        yield "descriptors were left open"
    first, last = ends(soaked.memory[len(soaked.memory) // 2 :])
    if last - first > MOST_GROWTH:
        yield f"its memory grew by {last - first:.1f} MB in the second half"
    if soaked.changes < soaked.seconds / 4:
        yield f"it saw {soaked.changes} changes of the sample in {soaked.seconds:g} s"
    if soaked.errors:
        yield f"its log has errors, the first is {soaked.errors[0]}"
    if soaked.code:
        yield f"it ended with {soaked.code}"


def course(values: Sequence[float]) -> str:
    """Ten of them, from the first to the last: a leak goes on where a pool is full at some time."""
    return " ".join(f"{values[len(values) * place // 10]:.1f}" for place in range(10)) if values else "none"


def ends(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the first and the last fifth."""
    fifth = max(len(values) // 5, 1)
    return median(values[:fifth]), median(values[-fifth:])


def main() -> int:
    """Soak, and say how it went."""
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
