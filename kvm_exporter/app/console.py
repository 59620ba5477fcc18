"""What commands are given: files and directories, and what is said of those that cannot be used."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.config.files import read_bounded
from kvm_exporter.cpuid.dump import parse_dump
from kvm_exporter.errors import InputError, OutputError, named
from kvm_exporter.kvm.sample import Sample

MAX_DUMP_BYTES = 1 << 27
"""Twice what cpuid -r writes of 8,192 CPUs."""


def sample_of_dump(name: str) -> Sample:
    """The sample in a dump's file, or in standard input for ``-``. Raises InputError."""
    with named(name):
        file = _standard_input() if name == "-" else Path(name)
        text = read_bounded(file, MAX_DUMP_BYTES, "the output of cpuid -r", "give a dump's file, or - for stdin")
        return sweep(parse_dump(text), CpuSelection(), None)


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise InputError("cannot be read: it is closed; give a dump's file, or - for stdin")
    return sys.stdin.buffer


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
