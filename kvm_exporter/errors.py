"""The errors that end a command, each with its exit code.

A message names the thing, says what is wrong with it and what to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ExporterError(Exception):
    """A command failed; the base of all errors here."""

    exit_code = 1


class UsageError(ExporterError):
    """The command line is invalid: contradictory flags, or a value that cannot be used."""

    exit_code = 2


class InputError(ExporterError):
    """The content of a file is invalid, or the file cannot be read; for content, the message begins with the line."""

    exit_code = 2


class ReadError(ExporterError):
    """A CPUID leaf could not be read; the message names the leaf and the CPU and gives the reason."""


class UnavailableError(ReadError):
    """This process cannot execute CPUID, and a retry would not help."""


class ListenError(ExporterError):
    """The server cannot listen on an address or on a socket that the service manager passed."""


class OutputError(ExporterError):
    """The output could not be written; the message is empty if the reader of a pipe closed it."""


@contextmanager
def named(source: object) -> Iterator[None]:
    """Prefix the message of an InputError raised in the block with ``source``, a path or a configuration key."""
    try:
        yield
    except InputError as error:
        error.args = (f"{source}: {error}",)
        raise
