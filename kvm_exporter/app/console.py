"""What commands are given: files and directories, and what is said of those that cannot be used."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kvm_exporter.app.systemd import runtime_directory
from kvm_exporter.collector.sweep import Selection, look
from kvm_exporter.cpuid.dump import DumpError, parse_dump
from kvm_exporter.kvm.sample import Sample

if TYPE_CHECKING:
    from kvm_exporter.config.baseline import BaselineFile
    from kvm_exporter.web.guard import WebConfigFile


MAX_DUMP_BYTES = 1 << 27
"""Twice what cpuid -r writes of 8,192 CPUs."""


class UsageError(Exception):
    """What was asked for cannot be meant; the message says what to give instead."""


def sample_of_dump(name: str) -> Sample:
    """The sample in a dump's file, or in standard input for ``-``. Raises UsageError."""
    try:
        text = _standard_input() if name == "-" else _file(Path(name))
        if len(text) > MAX_DUMP_BYTES:
            raise UsageError(f"{name}: over {MAX_DUMP_BYTES} bytes; is this the output of cpuid -r?")
        return look(parse_dump(text), Selection(), None)
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}; give a dump's file, or - for stdin") from error
    except DumpError as error:
        raise UsageError(f"{name}: {error}") from error


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed")
    return sys.stdin.buffer.read(MAX_DUMP_BYTES + 1)


def _file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_DUMP_BYTES + 1)


def keep_baseline(path: Path) -> "BaselineFile":
    """The baseline's file. Raises UsageError."""
    from kvm_exporter.config.baseline import BaselineError, BaselineFile  # noqa: PLC0415 - YAML only where it is asked for

    try:
        return BaselineFile(path)
    except BaselineError as error:
        raise UsageError(str(error)) from error


def keep_web_config(path: Path) -> "WebConfigFile":
    """The web configuration's file. Raises UsageError."""
    from kvm_exporter.config.web import WebConfigError  # noqa: PLC0415 - YAML and TLS only where they are asked for
    from kvm_exporter.web.guard import WebConfigFile  # noqa: PLC0415 - likewise

    try:
        return WebConfigFile(path, runtime_directory())
    except WebConfigError as error:
        raise UsageError(str(error)) from error


class OutputError(Exception):
    """Standard output does not take it; the message is empty where its reader has merely had enough."""


def write(text: str) -> None:
    """Write and flush. Raises OutputError."""
    if sys.stdout is None:  # closed by whoever started us: mypy believes that nobody does
        raise OutputError("standard output is closed; open it, or send it to a file")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail once more at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        enough = isinstance(error, BrokenPipeError)
        raise OutputError("" if enough else f"the output cannot be written: {error.strerror}") from error


def tell(message: str) -> None:
    """Say what went wrong in a line on standard error, if anybody can hear it: the exit code stays what it is."""
    if sys.stderr is not None:  # closed by whoever started us
        with suppress(OSError):
            sys.stderr.write(f"kvm-exporter: {message}\n")
