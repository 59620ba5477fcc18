"""Data on standard output: all of it, or an error. Messages to people on standard error: as far as that takes them."""

import os
import sys
from contextlib import suppress


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
