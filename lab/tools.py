"""Programs that are not Python's: found, or named as missing."""

import os
import shutil


class MissingToolError(Exception):
    """A program, a server or a device is missing; the message names it."""


def program(name: str) -> str:
    """The path of a program that Debian's packages install. Raises MissingToolError."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise MissingToolError(name)
    return path
