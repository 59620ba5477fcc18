"""A running exporter: the real program in a process of its own, on a free port of the loopback."""

import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lab.guest import port_of
from lab.patience import PATIENCE_SECONDS
from lab.process import Process
from lab.scrape import Scrape

PROGRAM = (sys.executable, "-m", "kvm_exporter", "serve", "--web.listen-address=127.0.0.1:0")

UNMEASURED = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
"""The environment of a process that no coverage is measured in."""


class Exporter(Process):
    """A process that serves."""

    @property
    def port(self) -> int:
        """The port that it listens on first, as its log says."""
        return port_of(self)

    @property
    def url(self) -> str:
        """Where it serves, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str = "/metrics", headers: dict[str, str] | None = None) -> str:
        """A body."""
        request = urllib.request.Request(self.url + path, headers=headers or {})  # noqa: S310 - always http
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:  # noqa: S310 - always http
            return str(response.read().decode())

    def scrape(self) -> Scrape:
        """What its metrics say now."""
        return Scrape(self.get())


@contextmanager
def exporter(
    *flags: str,
    environment: dict[str, str] | None = None,
    under: Sequence[str] = (),
    program: Sequence[str] = PROGRAM,
) -> Iterator[Exporter]:
    """The program as installed, with flags; it is stopped at the end. ``under`` starts another that starts it."""
    running = Exporter([*under, *program, *flags], environment)
    try:
        yield running
    finally:
        running.stop()
