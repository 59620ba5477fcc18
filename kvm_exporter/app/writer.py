"""Runs writes that may block, such as to a full pipe or a stopped journal, in a thread of their own."""

import threading
import time
from collections.abc import Callable
from queue import Full, Queue

MAX_WAITING = 1000
"""Most writes that wait; further ones are dropped."""

CLOSE_SECONDS = 1.0
"""How long close() waits for the writes that were queued."""

Write = Callable[[], None]


class BackgroundWriter:
    """Runs writes in the order in which they were put, in a daemon thread, which does not delay the exit.

    The thread starts with the first write. Where no thread can be started, a write runs at once and may block.
    """

    def __init__(self, name: str, lost: Callable[[int], None] = lambda _: None) -> None:
        """Create a writer whose thread has this name.

        ``lost`` runs in the thread when writes are possible again: it gets the number of writes dropped since its last
        call.
        """
        self._name = name
        self._lost = lost
        self._queue: Queue[Write | None] = Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None
        #: How many writes were dropped.
        self.dropped = 0

    def put(self, write: Write) -> None:
        """Run a write soon, unless too many are waiting."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                write()
                return
            self._thread = thread
        try:
            self._queue.put_nowait(write)
        except Full:
            self.dropped += 1

    def close(self) -> None:
        """Wait up to CLOSE_SECONDS until everything is written, and end the thread."""
        if self._thread is None:
            return
        until = time.monotonic() + CLOSE_SECONDS
        try:
            self._queue.put(None, timeout=CLOSE_SECONDS)
        except Full:
            return
        self._thread.join(max(until - time.monotonic(), 0))

    def _run(self) -> None:
        said = 0
        while (write := self._queue.get()) is not None:
            write()
            if (dropped := self.dropped) > said:
                self._lost(dropped - said)
                said = dropped
