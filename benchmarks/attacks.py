"""Scrapes of the exporter and of node_exporter while many peers attack them, without TLS and with it."""

import http.client
import select
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from benchmarks.attackers import ATTACKS
from benchmarks.effort import Effort
from benchmarks.figures import Figure
from benchmarks.programs import exporter, free_port, node_exporter, running
from lab.secure import TLS, ask_on, make_server, web_config

SCRAPE_TIMEOUT = 10.0
"""Seconds, as in Prometheus by default."""

SCRAPE_INTERVAL = 0.05

MOST_MILLISECONDS = 100.0
"""What the slowest scrape may take, unless node_exporter's takes longer."""


class Scraped(NamedTuple):
    """The scrapes during an attack."""

    #: Milliseconds of each scrape, in order of time.
    times: list[float]
    #: How many failed.
    failed: int


class Scraper:
    """Scrapes a port of the loopback, in turn on a connection that it keeps and on one of its own."""

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        self._port = port
        self._context = context
        self._kept = self._connection()

    def scrape_for(self, seconds: float, ready: Callable[[], bool]) -> Scraped:
        """Scrape at a steady rate until ``ready`` returns true, and for some seconds more."""
        times, failed, until = list[float](), 0, None
        while until is None or time.monotonic() < until:
            start = time.monotonic()
            try:
                self._scrape(own=bool(len(times) % 2))
            except (OSError, http.client.HTTPException):
                failed += 1
            times.append((time.monotonic() - start) * 1000)
            if until is None and ready():
                until = time.monotonic() + seconds
            time.sleep(max(0.0, start + SCRAPE_INTERVAL - time.monotonic()))
        self._kept.close()
        return Scraped(times, failed)

    def _scrape(self, *, own: bool) -> None:
        if own:
            with closing(self._connection()) as connection:
                _ask(connection)
            return
        try:
            _ask(self._kept)
        except ConnectionError:
            # As every client does whose idle connection the server has closed.
            self._kept.close()
            _ask(self._kept)

    def _connection(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection("127.0.0.1", self._port, timeout=SCRAPE_TIMEOUT)
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=SCRAPE_TIMEOUT, context=self._context)


def _ask(connection: http.client.HTTPConnection) -> None:
    status = ask_on(connection).status
    if status != HTTPStatus.OK:
        raise http.client.HTTPException(f"status {status}")


@contextmanager
def attacked(name: str, share: float, port: int, authority: Path | None) -> Iterator[Callable[[], bool]]:
    """Run an attack; give a function that tells whether its first peers are all there."""
    command = [sys.executable, "-m", "benchmarks.attackers", name, str(share), str(port)]
    command += [str(authority)] if authority else []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as attackers:
        output = attackers.stdout
        try:
            yield lambda: bool(output and select.select([output], [], [], 0)[0])
        finally:
            attackers.communicate()


def scraped(name: str, program: str, effort: Effort, *, tls: bool) -> Scraped:
    """Start a program, attack it, and return its scrapes. With ``tls``, the folder has certificates."""
    port = free_port()
    authority = effort.folder / "ca.crt" if tls else None
    flags = [f"--web.config.file={web_config(effort.folder, TLS)}"] if tls else []
    context = ssl.create_default_context(cafile=str(authority)) if tls else None
    with running([*COMMANDS[program](port), *flags], port):
        scraper = Scraper(port, context)
        with attacked(name, effort.attackers, port, authority) as ready:
            return scraper.scrape_for(effort.attack_seconds, ready)


COMMANDS: dict[str, Callable[[int], Sequence[str | Path]]] = {"exporter": exporter, "node_exporter": node_exporter}


def measure(effort: Effort) -> Iterator[Figure]:
    """Yield how many scrapes failed during each attack, and how long they took."""
    make_server(effort.folder)
    for name in ATTACKS:
        for tls in (False, True):
            ours, theirs = (scraped(name, program, effort, tls=tls) for program in COMMANDS)
            attack = f"attack_{name}_over_tls" if tls else f"attack_{name}"
            yield Figure(f"{attack}_failed", [ours.failed], "", target=0)
            yield Figure(f"{attack}_failed_of_node_exporter", [theirs.failed], "")
            for what, of in SHARES.items():
                target = max(MOST_MILLISECONDS, of(theirs.times)) if what != "p50" else None
                yield Figure(f"{attack}_{what}", [of(ours.times)], "ms", target=target)
                yield Figure(f"{attack}_{what}_of_node_exporter", [of(theirs.times)], "ms")


SHARES: dict[str, Callable[[Sequence[float]], float]] = {
    "p50": median,
    "p99": lambda times: quantiles(times, n=100, method="inclusive")[98],
    "max": max,
}
