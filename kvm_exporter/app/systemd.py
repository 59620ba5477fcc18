"""Integration with systemd: notifications, watchdog, sockets and the journal. The only importer of systemd.

Source: sd_notify(3), sd_watchdog_enabled(3), systemd.exec(5) on JOURNAL_STREAM, https://systemd.io/JOURNAL_NATIVE_PROTOCOL.

Datagrams are not sent by systemd-python: it holds the interpreter's lock while it sends, so that a journal or a service
manager that does not read would stop every thread.
"""

import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from systemd import daemon

from kvm_exporter.app.writer import BackgroundWriter

logger = logging.getLogger(__name__)

JOURNAL = "/run/systemd/journal/socket"
"""The socket of the journal's native protocol."""


def _send(address: str, data: bytes) -> None:
    """Send a datagram to a Unix socket; ``@`` begins an abstract address. Raises OSError, and may block: unix(7)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, f"\0{address[1:]}" if address.startswith("@") else address)


class Notifier:
    """Sends notifications in a thread of its own, because sending may block while the service manager does not read."""

    def __init__(self) -> None:
        self._writer = BackgroundWriter("kvm-notify")
        self._failing = False
        #: The status line that was sent last.
        self.status = ""

    def send(self, state: str) -> None:
        """Send lines ``VARIABLE=value`` soon. The first failure in a row is logged as a warning."""
        if "NOTIFY_SOCKET" in os.environ:
            self._writer.put(lambda: self._send(state))

    def close(self) -> None:
        """Wait a moment until everything is sent."""
        self._writer.close()

    def _send(self, state: str) -> None:
        try:
            _send(os.environ["NOTIFY_SOCKET"], state.encode())
        except OSError as error:
            if not self._failing:
                first = state.partition("\n")[0]
                logger.warning("cannot send %s to the service manager: %s", first, error.strerror)
            self._failing = True
        else:
            self._failing = False


_NOTIFIER = Notifier()


def notify(*assignments: str) -> None:
    """Send ``VARIABLE=value`` lines to the service manager. Does nothing if NOTIFY_SOCKET is not set."""
    _NOTIFIER.send("\n".join(assignments))


def flush_notifications() -> None:
    """Wait a moment until all notifications are sent."""
    _NOTIFIER.close()


def notify_ready(status: str) -> None:
    """Tell the service manager that start or reload is complete, with a status line for ``systemctl status``."""
    _NOTIFIER.status = status
    notify("READY=1", f"STATUS={status}")


def notify_status(status: str) -> None:
    """Send a status line for ``systemctl status``, unless it is the one that was sent last."""
    if status != _NOTIFIER.status:
        _NOTIFIER.status = status
        notify(f"STATUS={status}")


def notify_reloading() -> None:
    """Tell the service manager that a reload has started; notify_ready() ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def listen_descriptors() -> list[int]:
    """Return the file descriptors of the sockets that the service manager passed: sd_listen_fds(3).

    Without any, or where LISTEN_FDS or LISTEN_PID is not what a service manager sets, the list is empty.
    """
    try:
        return daemon.listen_fds()
    except OSError:
        return []


def watchdog_seconds() -> float | None:
    """Return the watchdog interval in seconds, or None if the watchdog is off: sd_watchdog_enabled(3).

    The service manager stops this process if no WATCHDOG=1 arrives within the interval.
    """
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1_000_000


def runtime_directory() -> Path | None:
    """Return the directory of RuntimeDirectory=, the first if there are several, or None: systemd.exec(5)."""
    first = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None


def stderr_is_journal() -> bool:
    """Return whether stderr is connected to the journal: JOURNAL_STREAM has the device and inode of that stream."""
    if sys.stderr is None:  # the parent process closed it; typeshed ignores that case
        return False
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def has_journal() -> bool:
    """Return whether the journal's socket exists."""
    return os.path.exists(JOURNAL)  # noqa: PTH110 - Path.exists() raises PermissionError


def journal_send(fields: tuple[str, ...]) -> None:
    """Send an entry of ``NAME=value`` to the journal. Raises OSError; may block while the journal does not read."""
    _send(JOURNAL, b"".join(map(_journal_field, fields)))


def _journal_field(field: str) -> bytes:
    """Return a field as the journal reads it: one of several lines has its length in front."""
    name, _, value = field.partition("=")
    data = value.encode(errors="backslashreplace")
    if b"\n" not in data:
        return b"%b=%b\n" % (name.encode(), data)
    return b"%b\n%b%b\n" % (name.encode(), len(data).to_bytes(8, "little"), data)


def journal_fields(record: logging.LogRecord) -> Iterator[str]:
    """Yield a record's journal fields as ``NAME=value``: the standard ones, then ``fields`` with upper-case names.

    A tuple yields one field for each of its values.
    """
    message = record.getMessage()
    if record.exc_info:
        message += "\n" + logging.Formatter().formatException(record.exc_info)
    yield f"MESSAGE={message}"
    yield f"PRIORITY={_PRIORITIES.get(record.levelno, 6)}"
    yield "SYSLOG_IDENTIFIER=kvm-exporter"
    yield f"LOGGER={record.name}"
    for name, value in getattr(record, "fields", {}).items():
        for one in value if isinstance(value, tuple) else (value,):
            yield f"{name.upper()}={one}"


_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""The syslog(3) priority of each logging level."""
