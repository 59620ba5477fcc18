"""A guest's serial line, with a shell at its other end."""

import contextlib
import re
import socket
import time

from lab.patience import GUEST_PATIENCE_SECONDS


class SilentError(Exception):
    """The other end of a line does not answer, or is gone."""


class Line:
    """Text from and to one serial port."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""

    def send(self, text: str) -> None:
        """Write it all. Raises SilentError."""
        self._connection.settimeout(GUEST_PATIENCE_SECONDS)
        try:
            self._connection.sendall(text.encode())
        except OSError as error:
            raise SilentError(f"the line does not take {text!r}: {error}") from error

    def until(self, pattern: str, seconds: float = GUEST_PATIENCE_SECONDS) -> re.Match[str]:
        """What a regular expression finds first; it and all before it are taken off the line. Raises SilentError."""
        deadline = time.monotonic() + seconds
        while (match := re.search(pattern, self._received.decode(errors="surrogateescape"))) is None:
            self._receive(deadline, pattern)
        self._received = match.string[match.end() :].encode(errors="surrogateescape")
        return match

    def discard(self) -> None:
        """Discard what has arrived, from an earlier program at the other end."""
        self._received = b""
        self._connection.setblocking(False)  # noqa: FBT003 - the standard library's signature
        with contextlib.suppress(OSError):
            while self._connection.recv(65536):
                pass

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _receive(self, deadline: float, wanted: str) -> None:
        self._connection.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            received = self._connection.recv(65536)
        except OSError as error:
            raise SilentError(f"no {wanted!r}: {error}; the line says {self._received[-2000:]!r}") from error
        if not received:
            raise SilentError(f"the line ended without {wanted!r}; it said {self._received[-2000:]!r}")
        self._received += received


class CommandError(Exception):
    """A command in a guest ended with another exit code than it should."""


class Shell:
    """A shell without prompt or echo that reads commands from a serial port."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._commands = 0

    def wait(self) -> None:
        """Until the system has started and the shell reads."""
        self._line.until("ready\n")

    def run(self, command: str, codes: tuple[int, ...] = (0,), seconds: float = GUEST_PATIENCE_SECONDS) -> str:
        """What a command writes to standard output. Raises SilentError; CommandError for an exit code not allowed."""
        self._commands += 1
        self._line.send(f"{command}\nprintf '\\nended %d %d\\n' {self._commands} $?\n")
        match = self._line.until(rf"(?s)^(.*)\nended {self._commands} (\d+)\n", seconds)
        if int(match[2]) not in codes:
            raise CommandError(f"{command!r} ended with {match[2]}, after {match[1]!r}")
        return match[1]
