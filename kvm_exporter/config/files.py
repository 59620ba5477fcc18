"""Read files up to a size limit, replace them atomically, and reload them when they change."""

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
"""Called with the path of a file before the file is read. A later change to the file then triggers a reload."""

Load = Callable[[T | None, Watch], T]
"""Reads files and returns a value. Raises InputError.

Its arguments are the previous value (None on the first load) and a function that adds a file to those watched.
"""

CREDENTIALS = Path("/run/credentials")
"""Where systemd puts the credentials of each service, which it alone can read. Source: systemd.exec(5)."""

logger = logging.getLogger(__name__)


def read_bounded(file: Path | BinaryIO, limit: int, kind: str, remedy: str) -> bytes:
    """Return the content of a file, given by its path or as an open file. It may have ``limit`` bytes at most.

    Raises InputError if the file cannot be read or is too large. The message uses ``kind``, what the file should be,
    and ``remedy``, what to do if it cannot be read.
    """
    try:
        with file.open("rb") if isinstance(file, Path) else contextlib.nullcontext(file) as opened:
            content = opened.read(limit + 1)
    except OSError as error:
        refused = isinstance(error, FileNotFoundError | PermissionError)
        if refused and isinstance(file, Path) and CREDENTIALS in file.parents:
            remedy = f"only a unit's own processes can read its credentials; add LoadCredential={file.name}:FILE to it"
        elif isinstance(error, PermissionError):
            remedy = f"let the user {os.geteuid()} read it, in a unit with SupplementaryGroups="
        raise InputError(f"cannot be read: {error.strerror}; {remedy}") from error
    if len(content) > limit:
        raise InputError(f"is larger than {limit} bytes; check that it is {kind}")
    return content


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the content of a file atomically: a reader gets either the old content or the new one.

    The mode of the new file is 0644. Raises OSError, in which case the old file is unchanged.

    The content is written to a temporary file in the same directory, flushed to disk (fsync(2)) and renamed
    (rename(2)). The temporary name ends in .tmp, so that collectors that select files by suffix ignore it.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def identity(path: Path) -> tuple[int, ...]:
    """Return the device, inode, size, mtime and ctime of a file; an empty tuple if it cannot be examined.

    The value changes whenever the file is written or replaced.
    """
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_pipe(path: Path) -> bool:
    try:
        return path.is_fifo()
    except OSError:
        return False


class Reloaded(Generic[T]):
    """A value loaded from a file and the files that it names, reloaded when one of them changes.

    A failed reload keeps the last good value. If the first load, in the constructor, fails, the value is ``default``;
    without a default InputError is raised. ``label`` names the value in log messages, such as "the baseline".
    """

    #: The value of the last successful load.
    value: T
    #: Whether the last load succeeded.
    success: bool
    #: Whether any load succeeded: otherwise ``value`` is the default.
    loaded: bool
    #: Time of the last load, successful or not, in seconds since the epoch.
    timestamp: float
    #: Duration of the last successful load, in seconds.
    seconds: float

    def __init__(self, path: Path, label: str, load: Load[T], default: T | None = None) -> None:
        self._path = path
        self._label = label
        self._load = load
        #: The identity() of each watched file, taken before the file was last read.
        self._identities: dict[Path, tuple[int, ...]] = {}
        #: Whether a load may wait, as the first one may.
        self._waits = True
        self.seconds, self.loaded = 0.0, False
        try:
            self._read(None)
        except InputError as error:
            if default is None:
                raise
            self.value = default
            logger.error("could not load %s, starting without it: %s", label, error)  # noqa: TRY400

    def refresh(self) -> None:
        """Reload if a watched file has changed. Costs one stat(2) per watched file otherwise."""
        if any(identity(path) != known for path, known in self._identities.items()):
            self.reload()

    def reload(self) -> None:
        """Reload the files. On failure, log an error and keep the previous value.

        A named pipe is a failure: reading it would wait for a writer, and everything else with it.
        """
        try:
            self._read(self.value)
        except InputError as error:
            follows = ", keeping the previous one" if self.loaded else ""
            logger.error("could not reload %s%s: %s", self._label, follows, error)  # noqa: TRY400
        else:
            logger.info("reloaded %s from %s", self._label, self._path)

    def _read(self, previous: T | None) -> None:
        self.success, self.timestamp, start = False, time.time(), time.perf_counter()
        self._identities, self._waits = {}, previous is None
        self._watch(self._path)
        self.value = self._load(previous, self._watch)
        self.success, self.loaded, self.seconds = True, True, time.perf_counter() - start

    def _watch(self, path: Path) -> None:
        self._identities[path] = identity(path)
        if not self._waits and _is_pipe(path):
            raise InputError(f"{path}: is a pipe, which is read at the start only; replace it by a file")
