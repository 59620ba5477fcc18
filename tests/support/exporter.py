"""A running exporter: the real program in a process of its own, on a free port of the loopback."""

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from support.scrape import Scrape

PROGRAM = (sys.executable, "-m", "kvm_exporter", "serve", "--web.listen-address=127.0.0.1:0")

UNMEASURED = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
"""The environment of a process that no coverage is measured in."""

LISTENING = re.compile(r"listening on (\S+:(\d+))")


class Exporter:
    """A process that serves, and what it has logged so far."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.log: list[str] = []
        self._logged = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def port(self) -> int:
        """The port that it listens on first, as its log says."""
        match = LISTENING.search(self.wait_for_log("listening on"))
        assert match is not None
        return int(match[2])

    @property
    def url(self) -> str:
        """Where it serves, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str = "/metrics", headers: dict[str, str] | None = None) -> str:
        """A body."""
        request = urllib.request.Request(self.url + path, headers=headers or {})  # noqa: S310 - always http
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - always http
            return str(response.read().decode())

    def wait_for_log(self, text: str, seconds: float = 10) -> str:
        """The first line of the log, from the start, that has the text in it."""
        with self._logged:
            found = self._logged.wait_for(
                lambda: any(text in line for line in self.log) or not self._running(), seconds
            )
            assert found, f"no {text!r} within {seconds} s in {self.log}"
            lines = [line for line in self.log if text in line]
            assert lines, f"it ended without {text!r}: {self.log}"
            return lines[0]

    def scrape(self) -> Scrape:
        """What its metrics say now."""
        return Scrape(self.get())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def _running(self) -> bool:
        return self.process.poll() is None

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                with self._logged:
                    self.log.append(line.rstrip("\n"))
                    self._logged.notify_all()
        self.process.wait()
        with self._logged:
            self._logged.notify_all()


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
