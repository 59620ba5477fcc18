"""Data on standard output: all of it, or an error."""

import os
import sys


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
