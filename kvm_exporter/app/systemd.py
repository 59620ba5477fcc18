"""What systemd is told, tells and gives: readiness, status, watchdog, the journal. The only importer of systemd.

Source: sd_notify(3), sd_watchdog_enabled(3), systemd.exec(5) on JOURNAL_STREAM.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from systemd import daemon

logger = logging.getLogger(__name__)


def notify(*assignments: str) -> None:
    """Send ``VARIABLE=value`` lines to the service manager; does nothing where there is none, or it does not listen."""
    try:
        daemon.notify("\n".join(assignments))
    except OSError as error:
        logger.warning("the service manager cannot be told %s: %s", assignments[0], error.strerror)


def notify_ready(status: str) -> None:
    """Started, or reloaded: requests are answered."""
    notify("READY=1", f"STATUS={status}")


def notify_reloading() -> None:
    """A reload has begun; notify_ready() ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def notify_stopping() -> None:
    """The end has begun."""
    notify("STOPPING=1")


def listen_descriptors() -> list[int]:
    """Descriptors of the sockets that the service manager bound for us: sd_listen_fds(3)."""
    return daemon.listen_fds()


def watchdog_seconds() -> float | None:
    """The time within which the service manager wants to hear of this process; None if it does not watch it."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1_000_000


def runtime_directory() -> Path | None:
    """What the service manager gives with RuntimeDirectory=, the first if there are several: systemd.exec(5)."""
    first = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None


def stderr_is_journal() -> bool:
    """Whether what is written to stderr goes to the journal: JOURNAL_STREAM names its device and inode."""
    if sys.stderr is None:  # closed by whoever started us: mypy believes that nobody does
        return False
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class JournalHandler(logging.Handler):
    """Log records as journal entries with fields."""

    def __init__(self) -> None:
        super().__init__()
        from systemd import journal  # noqa: PLC0415 - costs as much as all the rest here, and is for some services only

        self._send = journal.sendv

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            self._send(*journal_fields(record))
        except Exception:  # noqa: BLE001 - a log that cannot be written must not end what it logs
            self.handleError(record)


def journal_fields(record: logging.LogRecord) -> Iterator[str]:
    """A record as ``NAME=value``: its ``fields`` in upper case, one that is a tuple once for each of its values."""
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
"""Levels of syslog(3)."""
