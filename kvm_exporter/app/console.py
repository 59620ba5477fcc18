"""The commands' input and output: dumps from files or stdin, results on stdout, errors on stderr."""

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from kvm_exporter.app.systemd import stderr_is_journal
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.config.files import read_bounded
from kvm_exporter.cpuid.dump import parse_dump
from kvm_exporter.errors import InputError, OutputError, named
from kvm_exporter.kvm.migration import Side
from kvm_exporter.kvm.processor import read_processor
from kvm_exporter.kvm.sample import Sample

MAX_DUMP_BYTES = 1 << 27
"""Largest accepted dump: twice the output of cpuid -r for 8,192 CPUs."""


def sample_of_dump(name: str) -> Sample:
    """Return the sample in the dump of a machine, as side_of_dump() reads it. Raises InputError."""
    side = side_of_dump(name)
    if side.of_host:
        raise InputError(
            f"{name}: is a host's dump: what its KVM can offer, not what a machine is offered; give the dump of a guest"
        )
    return side.sample


def side_of_dump(name: str) -> Side:
    """Return what is in a dump, from the file ``name`` or from standard input for ``-``. Raises InputError."""
    file = file_named(name)
    with named(name):
        text = read_bounded(file, MAX_DUMP_BYTES, "the output of cpuid -r", "give the file of a dump, or - for stdin")
        dump = parse_dump(text)
        side = Side(sweep(dump, CpuSelection(), None), read_processor(dump.cpus[dump.online()[0]]), dump.of_host)
        if side.of_host and side.sample.common.kvm is None:
            raise InputError("is a host's dump without KVM's signature; record it again with kvm-exporter dump --host")
    for assumption in dump.assumptions:
        print_error(f"{name}: {assumption}")
    return side


def file_named(name: str) -> Path | BinaryIO:
    """Return the path of a file, or standard input for ``-``. Raises InputError if that is closed."""
    if name != "-":
        return Path(name)
    if sys.stdin is None:
        raise InputError("-: standard input is closed; give the name of a file, or redirect it")
    return sys.stdin.buffer


def write(text: str) -> None:
    """Write text to standard output and flush it. Raises OutputError."""
    if sys.stdout is None:  # the parent process closed it; typeshed ignores that case
        raise OutputError("standard output is closed; redirect it to a file")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # The interpreter flushes the buffer at exit; to /dev/null, that does not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        reader_closed = isinstance(error, BrokenPipeError)
        raise OutputError("" if reader_closed else f"cannot write to standard output: {error.strerror}") from error


def terminal_width() -> int | None:
    """Return the columns of the terminal that standard output is, or None for a pipe or a file.

    The lines of a pipe stay whole: ``grep`` finds all of a row, and ``less`` wraps or scrolls lines itself.
    """
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def print_error(message: str) -> None:
    """Print a line on standard error, after the name of the program; errors of the write are ignored.

    In the journal, which has the name already, the line has the priority ``err`` (3) instead: sd-daemon(3).
    """
    if sys.stderr is not None:  # the parent process may have closed it
        with suppress(OSError):
            sys.stderr.write(f"{'<3>' if stderr_is_journal() else 'kvm-exporter: '}{message}\n")
