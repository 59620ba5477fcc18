"""Run a block without root's privileges, so that the kernel applies permissions to it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

NOBODY = 65534
"""The user ID of nobody, who owns no file."""


USER = os.geteuid() or NOBODY
"""The user in such a block."""

PERMISSION = f"let the user {USER} read it, in a unit with SupplementaryGroups="
"""What a message says of a file that may not be read in such a block."""


@contextmanager
def unprivileged() -> Iterator[None]:
    """Set the effective user to nobody if it is root; any other user stays. Source: seteuid(2), capabilities(7)."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
