"""Logging as logfmt or JSON on stderr, or as journal entries. Every format includes a record's ``fields``.

Add fields with ``logger.info("…", extra={"fields": {"kvm_cpu": ("3",)}})``; a tuple is a field with several values.
"""

import json
import logging
import sys
from datetime import UTC, datetime

from kvm_exporter.app.systemd import JournalHandler, stderr_is_journal

LEVELS = ("debug", "info", "warn", "error")
FORMATS = ("logfmt", "json", "journal")


def configure(level: str, format_name: str | None) -> None:
    """Configure the root logger with a level of LEVELS and a format of FORMATS.

    Without a format, log to the journal if stderr is connected to it, else as logfmt.
    """
    format_name = format_name or ("journal" if stderr_is_journal() else "logfmt")
    if format_name == "journal":
        handler: logging.Handler = JournalHandler()
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter() if format_name == "json" else LogfmtFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel({"warn": "WARNING"}.get(level, level.upper()))


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
