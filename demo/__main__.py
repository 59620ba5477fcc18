"""``python -m demo``: a fleet with its alerts on the loopback, in which one machine drifts on a key press or signal."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from socket import gethostname
from tempfile import TemporaryDirectory
from textwrap import wrap
from types import FrameType

from demo.cast import CAST, LATER, PLAIN, STOLEN
from demo.fleet import PACE, RELEASE, Fleet
from lab.process import LogError, Process
from lab.servers import TOOLS
from lab.tools import MissingToolError
from lab.tree import DASHBOARDS, REPOSITORY
from lab.webhook import Message

Step = Callable[[], None]

LAST_LINES = 5
"""The number of log lines to print of a process that exited unexpectedly."""

WIDTH = 110
"""The characters of the longest line of a message."""


class Demonstration:
    """The event loop: runs one step after the other for keys, signals, notifications and processes that exit."""

    def __init__(self) -> None:
        self._next: SimpleQueue[Step] = SimpleQueue()
        self._drifted = False
        #: The exit code; None while the demonstration runs.
        self.code: int | None = None
        self._signals: Mapping[int, Step] = {
            signal.SIGUSR1: partial(self.drift, drifted=True),
            signal.SIGUSR2: partial(self.drift, drifted=False),
            **dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), partial(self.end, 0)),
        }
        for number in self._signals:
            signal.signal(number, self._obey)
        # In the background of a terminal, reading fails with an error instead of stopping the process.
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)

    def run(self, folder: Path) -> None:
        """Run the demonstration until a key or signal stops it, or a process exits."""
        with ExitStack() as running:
            try:
                self._fleet = Fleet(folder, running, self.told, self.ended)
            except (LogError, MissingToolError) as error:
                say(f"The demonstration cannot start: {error}")
                self.code = 1
                return
            say(program(self._fleet))
            threading.Thread(target=self._read_keys, daemon=True).start()
            while self.code is None:
                self._next.get()()
            say("Stopping.")

    def drift(self, *, drifted: bool) -> None:
        """Take the feature away from the first machine, or give it back."""
        self._drifted = drifted
        self._fleet.guests[PLAIN.name].change(LATER[drifted])
        say(f"{now()} {PLAIN.name} {'loses' if drifted else 'has'} {STOLEN.name}{'' if drifted else ' again'}")

    def end(self, code: int) -> None:
        """Make ``run`` return after this step; ``code`` is the exit code."""
        self.code = code

    def told(self, message: Message) -> None:
        """Print a notification of Alertmanager. Safe to call from any thread."""
        self._next.put(partial(say, f"{now()} to {message['receiver']}: {letter(message)}"))

    def ended(self, name: str, process: Process) -> None:
        """Stop the demonstration, because a process exited. Safe to call from any thread."""

        def step() -> None:
            lines = "".join(f"\n    {line}" for line in process.log[-LAST_LINES:])
            say(f"{now()} {name} exited unexpectedly with {process.process.returncode}. The end of its log:{lines}")
            self.end(1)

        self._next.put(step)

    def _obey(self, number: int, _: FrameType | None) -> None:
        """Queue the step of a signal, because a handler runs between any two instructions of this thread."""
        self._next.put(self._signals[number])

    def _read_keys(self) -> None:
        """Toggle the drift for each line of standard input. Return at its end, or if it cannot be read."""
        if sys.stdin is None:
            return
        try:
            while keys := os.read(sys.stdin.fileno(), 1024):
                for _ in range(keys.count(b"\n")):
                    self._next.put(lambda: self.drift(drifted=not self._drifted))
        except OSError:
            return


def letter(message: Message) -> str:
    """Return a message as a person would get it: what has happened to each machine and, while it is so, what to do."""
    labels, alerts = message["commonLabels"], message["alerts"]
    firing = sum(alert["status"] == "firing" for alert in alerts)
    status = f"FIRING:{firing}" if firing else "RESOLVED"
    paragraphs = [f"[{status}] {labels['alertname']}, {labels['severity']}"]
    for alert in alerts:
        texts = alert["annotations"]
        if alert["status"] == "firing":
            step = texts.get("runbook") or texts["runbook_url"]
            paragraphs += texts["summary"], texts["description"], f"Do: {step}"
        else:
            paragraphs.append(f"Resolved: {texts['summary']}")
    return "\n    ".join(line for paragraph in paragraphs for line in wrap(paragraph, WIDTH, break_on_hyphens=False))


def program(fleet: Fleet) -> str:
    """Return the text that lists the URLs to open and the keys to press."""
    machines = "".join(f"\n    http://{fleet.addresses[one.name]}/    {one.name:12} {one.about}" for one in CAST)
    addresses = (*fleet.addresses.values(), fleet.prometheus, fleet.alertmanager)
    ports = [address.rpartition(":")[2] for address in addresses]
    forwards = " ".join(f"-L {port}:127.0.0.1:{port}" for port in ports)
    boards = "".join(f"\n    {path.relative_to(REPOSITORY)}" for path in sorted(DASHBOARDS.glob("*.json")))
    amtool = TOOLS.relative_to(REPOSITORY) / RELEASE / "usr" / "bin" / "amtool"
    return f"""
Machines with their exporters:
{machines}

Monitoring, which scrapes every second; where an alert waits for a minute, it waits here for {60 / PACE:g} s:

    http://{fleet.prometheus}/classic/alerts    Prometheus
    http://{fleet.alertmanager}/api/v2/alerts     Alertmanager, which has no web pages in Debian; or run
    {amtool} --alertmanager.url=http://{fleet.alertmanager} alert

In a Grafana, 11.6 or later, add http://{fleet.prometheus} as a data source of the type Prometheus, and import:
{boards}

On another computer the URLs are the same after this:

    ssh -N {forwards} {gethostname()}

Press Enter, and {PLAIN.name} loses {STOLEN.name}. Press Enter again to give it back.
Instead of pressing Enter, you can run kill -USR1 {os.getpid()} and kill -USR2 {os.getpid()}.
The alert resolves some seconds after the feature is back.
Ctrl-C stops everything.

The notifications of Alertmanager are printed below as they arrive. The first ones are about the machines that are
unhealthy from the start. After half a minute there is one on the mixed feature sets of the fleet.
"""


def now() -> str:
    """Return the local time, as HH:MM:SS."""
    return datetime.now().astimezone().strftime("%H:%M:%S")


def say(text: str) -> None:
    """Print a line and flush it. Ignore errors, because the terminal may be closed."""
    with suppress(OSError):
        print(text, flush=True)


def main() -> int:
    """Run the demonstration; return the exit code, 0 if a key or signal stopped it."""
    demonstration = Demonstration()
    say("Starting.")
    with TemporaryDirectory(prefix="kvm-exporter-demo-") as folder:
        demonstration.run(Path(folder))
    return demonstration.code or 0


if __name__ == "__main__":
    sys.exit(main())
