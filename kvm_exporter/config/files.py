"""Files that are whole or not there."""

import contextlib
import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file by another, in one step for all who read it. Raises OSError, and leaves the old file whole then.

    The temporary file lies beside it under a name that does not end alike, so that no collector takes it for one of its
    own; it reaches the disk before it gets its name (rename(2), fsync(2)).
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def identity(path: Path) -> tuple[int, ...]:
    """What tells one state of a file from another; nothing while there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - at each scrape: half the price
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
