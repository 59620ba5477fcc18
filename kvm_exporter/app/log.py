"""Logging as logfmt or JSON on stderr, or as journal entries. Every format includes a record's ``fields``.

Add fields with ``logger.info("…", extra={"fields": {"kvm_cpu": ("3",)}})``; a tuple is a field with several values.
"""

import json
import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from kvm_exporter.app.systemd import JOURNAL, has_journal, journal_fields, journal_send, stderr_is_journal
from kvm_exporter.app.writer import BackgroundWriter

LEVELS = ("debug", "info", "warn", "error")
FORMATS = ("logfmt", "json", "journal")


def configure(level: str, format_name: str | None) -> "BackgroundHandler":
    """Configure the root logger with a level of LEVELS and a format of FORMATS, and return its handler.

    Without a format, log to the journal if stderr is connected to it, else as logfmt. Without a journal, log as logfmt
    and say so.
    """
    format_name = format_name or ("journal" if stderr_is_journal() else "logfmt")
    no_journal = format_name == "journal" and not has_journal()
    handler: BackgroundHandler
    if format_name == "journal" and not no_journal:
        handler = JournalHandler()
    else:
        handler = StderrHandler()
        handler.setFormatter(JsonFormatter() if format_name == "json" else LogfmtFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel({"warn": "WARNING"}.get(level, level.upper()))
    if no_journal:
        logging.getLogger(__name__).warning(
            "this machine has no journal: %s does not exist; logging to stderr", JOURNAL
        )
    return handler


class BackgroundHandler(logging.Handler, ABC):
    """Writes records in a thread of its own, so that a log that is not read cannot stop the program."""

    def __init__(self) -> None:
        super().__init__()
        self._writer = BackgroundWriter("kvm-log", self._say_lost)

    @property
    def dropped(self) -> int:
        """The number of records that were dropped because the log was not read in time."""
        return self._writer.dropped

    @abstractmethod
    def prepare(self, record: logging.LogRecord) -> Callable[[], None]:
        """Return what writes a record, after formatting it here."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record soon."""
        try:
            self._writer.put(partial(self._write, record, self.prepare(record)))
        except Exception:  # noqa: BLE001 - a failure to log must not stop the program
            self.handleError(record)

    def close(self) -> None:
        """Wait a moment for the records that are not written yet. logging calls this when the process exits."""
        self._writer.close()
        super().close()

    def _write(self, record: logging.LogRecord, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception:  # noqa: BLE001 - as in emit()
            self.handleError(record)

    def _say_lost(self, count: int) -> None:
        text = f"dropped {count} log message(s): nothing read the log in time"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
        self._write(record, self.prepare(record))


class StderrHandler(BackgroundHandler):
    """Writes lines to stderr."""

    def prepare(self, record: logging.LogRecord) -> Callable[[], None]:
        """Return what writes the line of a record."""
        return partial(_write_line, f"{self.format(record)}\n".encode(errors="backslashreplace"))


def _write_line(line: bytes) -> None:
    # Not by sys.stderr: a thread that blocks in it would hold its lock, and the interpreter flushes it at exit.
    if sys.stderr is not None:  # the parent process may have closed it
        while line:
            line = line[os.write(sys.stderr.fileno(), line) :]


class JournalHandler(BackgroundHandler):
    """Sends records to the journal, with their fields."""

    def prepare(self, record: logging.LogRecord) -> Callable[[], None]:
        """Return what sends a record."""
        return partial(journal_send, tuple(journal_fields(record)))


class LogfmtFormatter(logging.Formatter):
    """Formats a record as one line, ``ts=… level=… msg=… key=value``, with values quoted where needed."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return " ".join(f"{key}={_quoted(value)}" for key, value in _pairs(self, record).items())


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return json.dumps(_pairs(self, record))


def _pairs(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, str]:
    pairs = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": {"WARNING": "warn"}.get(record.levelname, record.levelname.lower()),
        "msg": record.getMessage(),
    }
    for name, value in getattr(record, "fields", {}).items():
        pairs[name] = ",".join(value) if isinstance(value, tuple) else str(value)
    if record.exc_info:
        pairs["exception"] = formatter.formatException(record.exc_info)
    return pairs


def _quoted(value: str) -> str:
    plain = value and value.isprintable() and not any(character in value for character in ' ="\\')
    return value if plain else json.dumps(value)
