"""Files: read up to a limit, replaced whole, and reloaded when they change."""

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from kvm_exporter.errors import InputError

T = TypeVar("T")

Watch = Callable[[Path], None]
"""Called with the path of a file before that is read: the value is reloaded when it changes."""

Load = Callable[[T | None, Watch], T]
"""Makes a value from files, given the previous value and what watches a further file. Raises InputError."""

logger = logging.getLogger(__name__)


def read_bounded(file: Path | BinaryIO, most: int, kind: str, remedy: str) -> bytes:
    """The content of a file, open or not, of at most ``most`` bytes.

    Raises InputError, whose message says what the file should be (``kind``) and what to do if it cannot be read
    (``remedy``).
    """
    try:
        with file.open("rb") if isinstance(file, Path) else contextlib.nullcontext(file) as opened:
            content = opened.read(most + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}; {remedy}") from error
    if len(content) > most:
        raise InputError(f"over {most} bytes; is this {kind}?")
    return content


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
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Reloaded(Generic[T]):
    """The value of a file and of the files that it names. While a change leaves them broken, the last good value stays.

    Raises InputError if they are broken from the start.
    """

    #: The last good value.
    value: T
    #: Whether ``value`` is what the files say now.
    success: bool
    #: When the files were last read, in seconds since the epoch, successfully or not.
    timestamp: float
    #: Duration of the last successful load, in seconds.
    seconds: float

    def __init__(self, path: Path, what: str, load: Load[T]) -> None:
        self._path = path
        self._what = what
        self._load = load
        #: The identity of each file when it was last read.
        self._seen: dict[Path, tuple[int, ...]] = {}
        self._read(None)

    def refresh(self) -> None:
        """Reload if a file has changed; one stat(2) a file if none has."""
        if any(identity(path) != seen for path, seen in self._seen.items()):
            self.reload()

    def reload(self) -> None:
        """Read the files again; a failure is logged and keeps the value."""
        try:
            self._read(self.value)
        except InputError as error:
            logger.error("could not reload %s, keeping the previous one: %s", self._what, error)  # noqa: TRY400
        else:
            logger.info("reloaded %s from %s", self._what, self._path)

    def _read(self, previous: T | None) -> None:
        self.success, self.timestamp, start = False, time.time(), time.perf_counter()
        self._seen = {}
        self._watch(self._path)
        self.value = self._load(previous, self._watch)
        self.success, self.seconds = True, time.perf_counter() - start

    def _watch(self, path: Path) -> None:
        self._seen[path] = identity(path)
