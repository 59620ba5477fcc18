"""kvm_exporter.app.log: records in logfmt, JSON and the journal; parsing a line returns the record's values."""

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.app import log, writer
from kvm_exporter.app.log import (
    FORMATS,
    LEVELS,
    BackgroundHandler,
    JournalHandler,
    JsonFormatter,
    LogfmtFormatter,
    configure,
)
from kvm_exporter.app.systemd import journal_fields

PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ "]*)(?: |$)')


def parse_logfmt(line: str) -> dict[str, str]:
    """Return the keys and values of a line of logfmt, and check that the line has nothing else."""
    pairs, end = {}, 0
    for match in PAIR.finditer(line):
        assert match.start() == end, f"{line[end:]!r} is no pair"
        end = match.end()
        value = match[2]
        pairs[match[1]] = json.loads(value) if value.startswith('"') else value
    assert end == len(line)
    return pairs


def parse_json(line: str) -> dict[str, str]:
    """Return the keys and values of a line of JSON."""
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


PARSERS = {LogfmtFormatter: parse_logfmt, JsonFormatter: parse_json}


def record(message: str, fields: Mapping[str, object] | None = None, level: int = logging.INFO) -> logging.LogRecord:
    """Return a log record with fields."""
    return logging.getLogger("kvm_exporter.test").makeRecord(
        "kvm_exporter.test", level, __file__, 1, message, (), None, extra={"fields": fields or {}}
    )


@pytest.mark.parametrize("formatter", PARSERS)
@given(
    message=st.text(),
    fields=st.dictionaries(
        st.from_regex(r"kvm_[a-z]{1,8}", fullmatch=True),
        st.text() | st.integers() | st.lists(st.text(st.characters(exclude_characters=","))).map(tuple),
        max_size=4,
    ),
)
def test_a_line_says_what_was_said(formatter: type[logging.Formatter], message: str, fields: dict[str, object]) -> None:
    """Any message and any fields are written as one line, and parsing it returns them."""
    before = datetime.now(UTC)
    line = formatter().format(record(message.replace("%", "%%"), fields))
    after = datetime.now(UTC)
    assert line.isprintable()
    pairs = PARSERS[formatter](line)
    assert pairs.pop("level") == "info"
    assert before - timedelta(milliseconds=1) <= datetime.fromisoformat(pairs.pop("ts")) <= after
    assert pairs.pop("msg") == message.replace("%", "%%")
    assert pairs == {
        name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in fields.items()
    }


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("stopped", "level=info msg=stopped"),
        ("listening on 127.0.0.1:1", 'level=info msg="listening on 127.0.0.1:1"'),
        ("", 'level=info msg=""'),
        ('a="b"', r'level=info msg="a=\"b\""'),
        ("two\nlines\x1b[0m", r'level=info msg="two\nlines\u001b[0m"'),
        ("\xe9t\xe9", "level=info msg=\xe9t\xe9"),
        ("back\\slash", r'level=info msg="back\\slash"'),
    ],
)
def test_logfmt_quotes_what_needs_it(message: str, line: str) -> None:
    """A message is quoted if it could start another line or another pair."""
    assert LogfmtFormatter().format(record(message)).partition(" ")[2] == line


@pytest.mark.parametrize("formatter", PARSERS)
def test_an_exception_goes_along(formatter: type[logging.Formatter]) -> None:
    """The traceback of an exception is a field of the same line."""
    failed = record("failed", level=logging.ERROR)
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        failed.exc_info = sys.exc_info()
    line = formatter().format(failed)
    assert "\n" not in line
    pairs = PARSERS[formatter](line)
    assert pairs["level"] == "error"
    assert pairs["exception"].startswith("Traceback (most recent call last):\n")
    assert pairs["exception"].endswith("ZeroDivisionError: integer division or modulo by zero")


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, whose level and handlers are restored afterwards."""
    logger = logging.getLogger()
    before = logger.level, logger.handlers[:]
    yield logger
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]


@pytest.mark.parametrize(
    ("level", "shown"), list(zip(LEVELS, (["debug", "info", "warn", "error"][n:] for n in range(4)), strict=True))
)
def test_levels(level: str, shown: list[str], root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    """A level includes itself and all more severe ones, under the names of the flag."""
    handler = configure(level, "json")
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        root.log(number, "message")
    handler.close()
    assert [json.loads(line)["level"] for line in capfd.readouterr().err.splitlines()] == shown


@contextmanager
def unread(monkeypatch: pytest.MonkeyPatch) -> Iterator[IO[str]]:
    """The reading end of stderr, a pipe that is not read yet."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as stderr, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        yield reader


def flood(root: logging.Logger) -> BackgroundHandler:
    """Log until the first message is dropped."""
    handler = configure("info", "json")
    while not handler.dropped:
        root.info("x" * 1000)
    return handler


def end(handler: BackgroundHandler, reader: IO[str]) -> None:
    """Read what is left, so that the handler's thread ends."""
    rest = threading.Thread(target=reader.read)
    rest.start()
    handler.close()
    sys.stderr.close()
    rest.join()


def test_a_log_that_nobody_reads_stops_nobody(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full pipe messages are dropped and counted; when it is read again, one line says how many."""
    with unread(monkeypatch) as reader:
        handler = flood(root)
        root.info("lost")
        lines = (json.loads(line) for line in iter(reader.readline, ""))
        said = next(line for line in lines if line["msg"].startswith("dropped"))
        assert (said["level"], said["msg"]) == ("warn", "dropped 2 log message(s): nothing read the log in time")
        end(handler, reader)


def test_the_process_may_end_while_nobody_reads(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the handler gives up after a moment."""
    with unread(monkeypatch) as reader:
        handler = flood(root)
        with monkeypatch.context() as short:
            short.setattr(writer, "CLOSE_SECONDS", 0.01)
            handler.close()
        assert "kvm-log" in [thread.name for thread in threading.enumerate()]
        end(handler, reader)


@pytest.mark.parametrize(
    ("form", "journal", "expected"),
    [
        ("logfmt", True, LogfmtFormatter),
        ("json", True, JsonFormatter),
        ("journal", False, None),
        (None, True, None),
        (None, False, LogfmtFormatter),
    ],
)
def test_formats(
    form: str | None,
    expected: type[logging.Formatter] | None,
    root: logging.Logger,
    monkeypatch: pytest.MonkeyPatch,
    *,
    journal: bool,
) -> None:
    """Without the flag the format is that of the journal if stderr is connected to it, else logfmt."""
    assert form is None or form in FORMATS
    monkeypatch.setattr(log, "stderr_is_journal", lambda: journal)
    monkeypatch.setattr(log, "has_journal", lambda: True)
    configure("info", form)
    [handler] = root.handlers
    if expected is None:
        assert isinstance(handler, JournalHandler)
    else:
        assert isinstance(handler.formatter, expected)


def test_without_a_journal_the_log_goes_to_stderr_and_says_so(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where there is no journal, every line would be lost."""
    monkeypatch.setattr("kvm_exporter.app.systemd.JOURNAL", "/nonexistent/socket")
    configure("info", "journal").close()
    [handler] = root.handlers
    assert isinstance(handler.formatter, LogfmtFormatter)
    assert 'level=warn msg="this machine has no journal: ' in capfd.readouterr().err


def test_the_journal_gets_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal gets message, priority, identifier, logger, and a record's fields in upper case, tuples repeated."""
    sent: list[tuple[str, ...]] = []
    monkeypatch.setattr(log, "journal_send", sent.append)
    handler = JournalHandler()
    fields = {"message_id": "c3300e3bfd0e45029fe115d215cafd78", "kvm_feature": ("steal_time", "pv_eoi"), "kvm_cpu": ()}
    handler.emit(record("changed", fields, logging.WARNING))
    handler.close()
    assert sent == [
        (
            "MESSAGE=changed",
            "PRIORITY=4",
            "SYSLOG_IDENTIFIER=kvm-exporter",
            "LOGGER=kvm_exporter.test",
            "MESSAGE_ID=c3300e3bfd0e45029fe115d215cafd78",
            "KVM_FEATURE=steal_time",
            "KVM_FEATURE=pv_eoi",
        )
    ]


def test_the_journal_gets_tracebacks() -> None:
    """The traceback follows the message in the journal."""
    failed = record("failed", level=logging.ERROR)
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        failed.exc_info = sys.exc_info()
    message, priority, *_ = journal_fields(failed)
    assert message.startswith("MESSAGE=failed\nTraceback (most recent call last):\n")
    assert priority == "PRIORITY=3"


def test_a_journal_that_does_not_listen_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure to write to the journal does not raise an exception."""
    complaints: list[logging.LogRecord] = []
    handler = JournalHandler()

    def refuse(_: tuple[str, ...]) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(log, "journal_send", refuse)
    monkeypatch.setattr(handler, "handleError", complaints.append)
    said = record("changed")
    handler.emit(said)
    handler.close()
    assert complaints == [said]
