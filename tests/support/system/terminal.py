"""A program in a terminal of its own, as a person has it: with keys, of which the terminal makes some signals."""

import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from lab.patience import PATIENCE_SECONDS


class Terminal:
    """A pseudo-terminal: pty(7). The program that is started there leads its session."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None, columns: int) -> None:
        self._keys, screen = pty.openpty()
        termios.tcsetwinsize(screen, (50, columns))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command], stdin=screen, stdout=screen, stderr=screen, env=environment
        )
        os.close(screen)
        self._unread = ""

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._keys, keys.encode())

    def until(self, pattern: str) -> re.Match[str]:
        """What a regular expression finds first; it and all before it are not looked at again."""
        end = time.monotonic() + PATIENCE_SECONDS
        while (found := re.search(pattern, self._unread)) is None:
            assert self._receive(end - time.monotonic()), f"no {pattern!r}; the terminal shows {self._unread!r}"
        self._unread = found.string[found.end() :]
        return found

    def to_the_end(self) -> str:
        """What the program shows until it ends, with the line ends of a file."""
        while self._receive(PATIENCE_SECONDS):
            pass
        self.process.wait(PATIENCE_SECONDS)
        return self._unread.replace("\r\n", "\n")

    def close(self) -> None:
        """Take it away."""
        os.close(self._keys)

    def _receive(self, seconds: float) -> bool:
        """Whether there was something to see in time."""
        if not select.select([self._keys], [], [], max(seconds, 0))[0]:
            return False
        try:
            received = os.read(self._keys, 1 << 16)
        except OSError:
            return False  # no process has it open any more
        self._unread += received.decode()
        return bool(received)


@contextmanager
def terminal(*command: str, environment: Mapping[str, str] | None = None, columns: int = 400) -> Iterator[Terminal]:
    """A program in a terminal, in an environment of its own if there is one; it is ended with it."""
    running = Terminal(command, environment, columns)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()
        running.close()
