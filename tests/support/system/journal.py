"""A journal that listens, for programs in a mount namespace of their own; the real one is not reached from there."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.patience import PATIENCE_SECONDS
from tests.support.tools import missing, program

SCRIPT = (
    'mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal && exec "$@"'
)
"""Run by a shell in the namespace, with the folder of our socket and then the program's command line."""

Entry = dict[str, list[str]]
"""Fields; a name may repeat."""


class Journal:
    """What programs write, entry by entry."""

    def __init__(self, received: socket.socket, folder: Path) -> None:
        self._received = received
        self.under = [program("unshare"), "--mount", "sh", "-c", SCRIPT, str(folder)]
        """The beginning of a command line: what follows writes here."""

    def next(self) -> Entry:
        """The next entry. Raises TimeoutError."""
        self._received.settimeout(PATIENCE_SECONDS)
        return parse(self._received.recv(1 << 16))


@contextmanager
def journal(folder: Path) -> Iterator[Journal]:
    """A journal in an empty folder; the test is skipped where mounting is not permitted."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as received:
        received.bind(str(folder / "socket"))
        found = Journal(received, folder)
        if subprocess.run([*found.under, "true"], capture_output=True, check=False).returncode:
            missing("the right to mount in a namespace of one's own (root)")
        yield found


def parse(datagram: bytes) -> Entry:
    """The fields of an entry: systemd's JOURNAL_NATIVE_PROTOCOL."""
    entry: Entry = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(datagram[:8], "little")
            value, datagram = datagram[8 : 8 + size], datagram[8 + size + 1 :]
        entry.setdefault(name.decode(), []).append(value.decode())
    return entry
