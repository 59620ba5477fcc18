"""What commands are given: files and directories, and what is said of those that cannot be used."""

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kvm_exporter.app.routes import BaselineKeeper
from kvm_exporter.collector.sweep import Selection, look
from kvm_exporter.cpuid.dump import DumpError, parse_dump
from kvm_exporter.kvm.sample import Sample

if TYPE_CHECKING:
    from kvm_exporter.web_config_file import WebConfigFile


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


def keep_baseline(path: Path) -> BaselineKeeper:
    """The baseline's file. Raises UsageError."""
    from kvm_exporter.config.baseline import BaselineError, BaselineFile  # noqa: PLC0415 - YAML only where it is asked for

    try:
        return BaselineFile(path)
    except BaselineError as error:
        raise UsageError(str(error)) from error


def keep_web_config(path: Path) -> "WebConfigFile":
    """The web configuration's file. Raises UsageError."""
    from kvm_exporter.config.web import WebConfigError  # noqa: PLC0415 - YAML and TLS only where they are asked for
    from kvm_exporter.web_config_file import WebConfigFile  # noqa: PLC0415 - likewise

    try:
        return WebConfigFile(path)
    except WebConfigError as error:
        raise UsageError(str(error)) from error
