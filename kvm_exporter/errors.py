"""One family of errors. Each is raised once, where it is known, and ends a command with its exit code.

A message names the thing, says what is wrong with it and what to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ExporterError(Exception):
    """A command cannot do what it was asked to."""

    exit_code = 1


class UsageError(ExporterError):
    """The command line contradicts itself or names something that cannot be used."""

    exit_code = 2


class InputError(ExporterError):
    """A file, or a text from one, is not what it has to be; the message begins with the place in it."""

    exit_code = 2


class ReadError(ExporterError):
    """A leaf could not be read; the message says which one, where and why."""


class UnavailableError(ReadError):
    """No leaf can be read in this process, now or later."""


class ListenError(ExporterError):
    """An address or a handed-over socket cannot be listened on."""


class OutputError(ExporterError):
    """The output could not be written; the message is empty where a pipe's reader has closed it."""


@contextmanager
def named(source: object) -> Iterator[None]:
    """Put the name of a file, or of a key that names one, before the message of an InputError raised within."""
    try:
        yield
    except InputError as error:
        error.args = (f"{source}: {error}",)
        raise
