"""Private keys and certificates as OpenSSL wants them: from the file or the text that a configuration gives."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvm_exporter.app.systemd import runtime_directory
from kvm_exporter.tls_config import Pem, TlsError

MAX_BYTES = 1 << 20
"""Room for every authority that there is."""


def read_pem(pem: Pem) -> bytes:
    """What is in it, unparsed. Raises TlsError."""
    if not isinstance(pem.source, Path):
        return pem.source
    try:
        with pem.source.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TlsError(f"{pem}: cannot be read: {error.strerror}; name a file that the exporter may read") from error
    if not content.strip():
        raise TlsError(f"{pem}: is empty; it has to be PEM")
    if len(content) > MAX_BYTES:
        raise TlsError(f"{pem}: is over {MAX_BYTES} bytes; is it PEM?")
    return content


@contextmanager
def private_file(content: bytes) -> Iterator[str]:
    """The path of a file in memory, in no folder, that only this process' user can open and that is gone afterwards.

    Python's ssl reads keys from nothing but files. Raises OSError where there is no /proc.
    """
    with os.fdopen(_unnamed_file(), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _unnamed_file() -> int:
    """A descriptor of a new file. Raises OSError."""
    try:
        return os.memfd_create("kvm-exporter")
    except PermissionError:
        # Such a file could be executed, so the sandbox of our units refuses it. The runtime directory is in memory too,
        # and nothing in there can be executed (open(2), O_TMPFILE).
        if (directory := runtime_directory()) is None:
            raise
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
