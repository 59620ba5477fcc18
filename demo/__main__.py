"""``python -m demo``: a fleet with its alerts on the loopback, one of whose machines drifts when it is told to."""

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
from tempfile import TemporaryDirectory
from types import FrameType

from demo.cast import CAST, LATER, PLAIN, STOLEN
from demo.fleet import PACE, RELEASE, Fleet
from lab.process import LogError, Process
from lab.servers import TOOLS
from lab.tools import MissingToolError
from lab.tree import REPOSITORY
from lab.webhook import Message

Step = Callable[[], None]

LAST_WORDS = 5
"""So many lines of its log are shown of a process that should not have ended."""


class Demonstration:
    """What happens, one thing after the other, whoever wants it: a key, a signal, a message, the end of a process."""

    def __init__(self) -> None:
        self._next: SimpleQueue[Step] = SimpleQueue()
        self._drifted = False
        #: The exit code, once it is over.
        self.code: int | None = None
        self._signals: Mapping[int, Step] = {
            signal.SIGUSR1: partial(self.drift, drifted=True),
            signal.SIGUSR2: partial(self.drift, drifted=False),
            **dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), partial(self.end, 0)),
        }
        for number in self._signals:
            signal.signal(number, self._obey)
        # In the background of a terminal there are no keys, and reading is an error instead of a stop.
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)

    def run(self, folder: Path) -> None:
        """Until somebody ends it, or a process does."""
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
        """Let the first machine lose its feature, or have it back."""
        self._drifted = drifted
        self._fleet.guests[PLAIN.name].change(LATER[drifted])
        say(f"{now()} {PLAIN.name} {'loses' if drifted else 'has'} {STOLEN.name}{'' if drifted else ' again'}")

    def end(self, code: int) -> None:
        """There is no next."""
        self.code = code

    def told(self, message: Message) -> None:
        """Show what Alertmanager sends, whichever thread receives it."""
        for alert in message["alerts"]:
            labels, summary = alert["labels"], alert["annotations"]["summary"]
            status = f"{alert['status'].upper():8} {labels['severity']:8} {labels['alertname']}"
            self._next.put(partial(say, f"{now()} to {message['receiver']}: {status}: {summary}"))

    def ended(self, name: str, process: Process) -> None:
        """Without one of them it is over, whichever thread knows of it."""

        def step() -> None:
            words = "".join(f"\n    {line}" for line in process.log[-LAST_WORDS:])
            say(f"{now()} {name} has ended by itself, with {process.process.returncode}. Its last words:{words}")
            self.end(1)

        self._next.put(step)

    def _obey(self, number: int, _: FrameType | None) -> None:
        """A signal comes between any two instructions of this thread; it waits for its turn like all else."""
        self._next.put(self._signals[number])

    def _read_keys(self) -> None:
        """Each line is a turn; without a terminal, or at the end of a file, there are none."""
        if sys.stdin is None:
            return
        try:
            while keys := os.read(sys.stdin.fileno(), 1024):
                for _ in range(keys.count(b"\n")):
                    self._next.put(lambda: self.drift(drifted=not self._drifted))
        except OSError:
            return


def program(fleet: Fleet) -> str:
    """What there is to see and to do."""
    machines = "".join(f"\n    http://{fleet.addresses[one.name]}/    {one.name:12} {one.about}" for one in CAST)
    amtool = TOOLS.relative_to(REPOSITORY) / RELEASE / "usr" / "bin" / "amtool"
    return f"""
Machines with their exporters:
{machines}

Those who watch them, every second; what the alerts wait for a minute, they wait here for {60 / PACE:g} s:

    http://{fleet.prometheus}/classic/alerts    Prometheus
    http://{fleet.alertmanager}/api/v2/alerts     Alertmanager, which has no pages in Debian; or
    {amtool} --alertmanager.url=http://{fleet.alertmanager} alert

Enter lets {PLAIN.name} lose {STOLEN.name}, and Enter again gives it back; so do kill -USR1 {os.getpid()} and -USR2.
That it has it back is told after half a minute: an alert on drift is kept for a while. Ctrl-C ends it all.

What people would be told follows as it comes: of what is wrong from the beginning at once, and after half a minute that
the machines are offered three different things.
"""


def now() -> str:
    """The time of the day."""
    return datetime.now().astimezone().strftime("%H:%M:%S")


def say(text: str) -> None:
    """At once, if anybody is still there: a terminal that is closed is a signal, and no more to write to."""
    with suppress(OSError):
        print(text, flush=True)


def main() -> int:
    """The exit code: 0 when somebody ends it."""
    demonstration = Demonstration()
    say("Starting.")
    with TemporaryDirectory(prefix="kvm-exporter-demo-") as folder:
        demonstration.run(Path(folder))
    return demonstration.code or 0


if __name__ == "__main__":
    sys.exit(main())
