"""A running exporter: the real program in its own process, on a free port of the loopback."""

import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lab.guest import port_of
from lab.patience import NEVER, PATIENCE_SECONDS
from lab.process import Process
from lab.scrape import Scrape

TIMEOUT = f"--sample.timeout={NEVER:.0f}s"
"""A sample of a busy machine may take longer than the default."""

PROGRAM = (sys.executable, "-m", "kvm_exporter", "serve", TIMEOUT, "--web.listen-address=127.0.0.1:0")

UNMEASURED = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
"""The environment of a process whose coverage is not measured."""


class Exporter(Process):
    """A process of the exporter that serves HTTP."""

    @property
    def port(self) -> int:
        """The first port that it listens on, read from its log."""
        return port_of(self)

    @property
    def url(self) -> str:
        """The URL of the server, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str = "/metrics", headers: dict[str, str] | None = None) -> str:
        """Return the body of a response."""
        request = urllib.request.Request(self.url + path, headers=headers or {})  # noqa: S310 - always http
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:  # noqa: S310 - always http
            return str(response.read().decode())

    def scrape(self) -> Scrape:
        """Scrape the exporter's metrics."""
        return Scrape(self.get())


@contextmanager
def exporter(
    *flags: str,
    environment: dict[str, str] | None = None,
    under: Sequence[str] = (),
    program: Sequence[str] = PROGRAM,
) -> Iterator[Exporter]:
    """Run the installed program with flags, and stop it at the end; ``under`` is a command that runs it."""
    running = Exporter([*under, *program, *flags], environment)
    try:
        yield running
    finally:
        running.stop()
