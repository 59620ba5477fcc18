"""A program in a child process, and the lines that it has logged so far."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

from lab.patience import PATIENCE_SECONDS
from lab.tree import REPOSITORY

MORTAL = ("setpriv", "--pdeathsig", "KILL")
"""The start of a command line: the program after it is killed when its parent dies, however that happens: prctl(2)."""


class LogError(Exception):
    """A process did not log an expected line; the message has what it logged instead."""


class Process:
    """A process in the repository's folder, without standard input; its standard error is its log."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        group: int | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {})},
            process_group=group,
        )
        self.log: list[str] = []
        self._over = False
        self._interested: list[Callable[[], None]] = []
        self._logged = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for_log(self, text: str) -> str:
        """Return the first line of the whole log that contains a text. Raises LogError after ``seconds``."""
        with self._logged:
            found = self._logged.wait_for(
                lambda: any(text in line for line in self.log) or not self._running(), PATIENCE_SECONDS
            )
            if not found:
                raise LogError(f"no {text!r} within {PATIENCE_SECONDS:g} s in {self.log}")
            lines = [line for line in self.log if text in line]
            if not lines:
                raise LogError(f"it ended without {text!r}: {self.log}")
            return lines[0]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the process if it is running, and return its exit code."""
        if self._running():
            self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    def when_ended(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called in another thread when the process has ended; call it immediately if it has."""
        with self._logged:
            if not self._over:
                self._interested.append(tell)
                return
        tell()

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
            self._over = True
            self._logged.notify_all()
        for tell in self._interested:
            tell()
