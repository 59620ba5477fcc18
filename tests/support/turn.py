"""Turns: a test that disturbs all others runs while no other process runs one."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.tree import REPOSITORY

DOOR, ROOM = Path(__file__), REPOSITORY / "pyproject.toml"
"""Files that are locked, flock(2), and not written."""


@contextmanager
def turn(*, alone: bool) -> Iterator[None]:
    """Run the block when no block elsewhere runs alone, or, for one that is to be alone, when none runs at all.

    A process locks the door while it waits for the room: a process that waits to be alone is not overtaken for ever.
    """
    with DOOR.open() as door, ROOM.open() as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
