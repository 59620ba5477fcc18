"""Paths of programs that Python packages do not install."""

import os
import shutil


class MissingToolError(Exception):
    """A program, a server or a device is missing; the message names it."""


def program(name: str) -> str:
    """Return the path of a program from a Debian package. Raises MissingToolError."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise MissingToolError(name)
    return path
