"""A latch in the file system that holds up the samples of a daemon while a test inspects it."""

import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from lab.exporter import Exporter, exporter
from lab.patience import PATIENCE_SECONDS


class Latch:
    """Open until shut() closes it; the daemon finds it by its path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listener: socket.socket | None = None

    def daemon(
        self,
        *,
        max_age: float = 0.001,
        timeout: float = PATIENCE_SECONDS,
        max_requests: int = 40,
        environment: dict[str, str] | None = None,
    ) -> AbstractContextManager[Exporter]:
        """The daemon behind the latch; with its usual age every scrape makes it read. Times are in seconds."""
        settings = (str(max_age), str(timeout), str(max_requests))
        program = (sys.executable, "-m", "tests.support.system.latched_daemon", str(self._path), *settings)
        return exporter(program=program, environment=environment)

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Hold up every reading that begins in this block, until its end at the latest."""
        with socket.socket(socket.AF_UNIX) as self._listener:
            self._listener.bind(str(self._path))
            self._listener.settimeout(PATIENCE_SECONDS)
            self._listener.listen()
            try:
                yield
            finally:
                self._path.unlink()

    @contextmanager
    def visitor(self) -> Iterator[None]:
        """Wait for a reading at the latch that is shut; it goes on at the end of the block."""
        assert self._listener is not None
        visitor, _ = self._listener.accept()
        with visitor:
            yield
