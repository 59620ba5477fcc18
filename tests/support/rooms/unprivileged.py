"""A moment without root's privileges, so that the kernel refuses what it refuses everybody else."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

NOBODY = 65534
"""The user that owns nothing."""


@contextmanager
def unprivileged() -> Iterator[None]:
    """In this block, root is nobody and others are who they are. Source: seteuid(2), capabilities(7)."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
