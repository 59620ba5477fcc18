"""Writes the gauges for node_exporter's textfile collector: whole or not at all."""

import contextlib
import os
import tempfile
from pathlib import Path

from kvm_exporter.exposition import render
from kvm_exporter.metrics import machine_families
from kvm_exporter.negotiation import Format
from kvm_exporter.sample import Sample
from kvm_exporter.self_metrics import build_families, sample_families


def textfile_body(sample: Sample) -> bytes:
    """The gauges in text 0.0.4: no counters, and nothing of a process that is gone when the file is read."""
    families = [*machine_families(sample), *build_families(), *sample_families(sample, success=True)]
    return render(families, Format.TEXT_0_0_4)


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file by another, in one step for all who read it. Raises OSError, and leaves the old file whole then.

    The temporary file lies beside it under a name that does not end alike, so that no collector takes it for one of its
    own; it reaches the disk before it gets its name (rename(2), fsync(2)).
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
