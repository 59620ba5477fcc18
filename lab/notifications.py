"""The service manager's end of sd_notify(3): a real datagram socket."""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.exporter import Exporter, exporter
from lab.patience import PATIENCE_SECONDS

Notification = dict[str, str]


class Notifications:
    """The notifications that a service sends, one per datagram."""

    def __init__(self, received: socket.socket) -> None:
        self._received = received
        self.address = str(received.getsockname())

    @property
    def environment(self) -> dict[str, str]:
        """The environment variable that gives a service the address of the socket."""
        return {"NOTIFY_SOCKET": self.address}

    def next(self) -> Notification:
        """The next one. Raises TimeoutError."""
        return self._next(PATIENCE_SECONDS)

    def until(self, name: str) -> Notification:
        """The next one that has a name in it; those before it are dropped. Raises TimeoutError."""
        while name not in (notification := self.next()):
            pass
        return notification

    def within(self, seconds: float) -> Iterator[Notification]:
        """The messages so far, and later ones until no message has arrived for this many seconds."""
        try:
            while True:
                yield self._next(seconds)
        except (TimeoutError, BlockingIOError):
            return

    def _next(self, seconds: float) -> Notification:
        self._received.settimeout(seconds)
        lines = self._received.recv(1 << 16).decode().splitlines()
        return {name: value for name, _, value in (line.partition("=") for line in lines)}


@contextmanager
def notifications(folder: Path) -> Iterator[Notifications]:
    """Bind a notification socket in a folder."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as received:
        received.bind(str(folder / "notify"))
        yield Notifications(received)


@contextmanager
def notified_exporter(*flags: str, **environment: str) -> Iterator[tuple[Exporter, Notifications]]:
    """Run an exporter, and wait until it has sent READY to the service manager."""
    with (
        tempfile.TemporaryDirectory() as folder,
        notifications(Path(folder)) as manager,
        exporter(*flags, environment={**manager.environment, **environment}) as running,
    ):
        manager.until("READY")
        yield running, manager
