"""How long the peers of a server may take for each thing that they can delay."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a peer may take, in seconds."""

    #: For a TLS handshake.
    handshake: float = 5.0
    #: For a whole header: from its first byte, or from the connection's begin.
    header: float = 10.0
    #: For a write that makes no progress.
    write: float = 10.0
    #: Between requests.
    idle: float = 75.0
    #: For a refused peer to read why, before the connection is cut.
    linger: float = 1.0


class Deadline:
    """A time by which something has to happen, which is set anew for each request.

    Its timer stays where it is while the time is only put off: it looks again when it goes off. For one event loop.
    """

    def __init__(self, missed: Callable[[], None]) -> None:
        self._missed = missed
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> None:
        """From now on there is so much time."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= self._due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(self._due, self._look)

    def lift(self) -> None:
        """From now on there is any amount of time."""
        self._due = None

    def end(self) -> None:
        """There is none any more, and nothing left of it."""
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._due is None:
            return
        if self._due > loop.time():
            self._timer = loop.call_at(self._due, self._look)
        else:
            self._missed()
