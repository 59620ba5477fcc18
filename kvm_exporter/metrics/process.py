"""The process metrics of prometheus_client (CPU time, memory, file descriptors), rendered cheaply at each scrape.

Names, help and start time come from its ProcessCollector, which runs once: it would open three files at each scrape,
and its families would have to be rendered. Source: proc_pid_statm(5), time(7), /proc/PID/fd in the kernel's
Documentation/filesystems/proc.rst; prometheus_client's process_collector.py defines the values.
"""

import os
import resource
import time

from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.core import Metric

from kvm_exporter.metrics.exposition import render, template
from kvm_exporter.metrics.negotiation import Format

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


CHANGING = (
    "process_cpu_seconds",
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
)
"""The families whose values change while the process runs."""


def python_families() -> tuple[Metric, ...]:
    """Return the family ``python_info``, which is constant."""
    return tuple(PlatformCollector(registry=None).collect())


class ProcessMetrics:
    """The process metrics of this process; without any if prometheus_client does not support the platform."""

    def __init__(self) -> None:
        families = {family.name: family for family in ProcessCollector(registry=None).collect()}
        self._changing = [families.pop(name) for name in CHANGING if name in families]
        self._constant = tuple(families.values())
        #: The text of each format, with a placeholder for each value that changes.
        self._templates: dict[Format, bytes] = {}
        if self._changing:
            # These stay open, so that they can be read even when no file descriptor is left.
            self._memory = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
            self._descriptors = os.open("/proc/self/fd", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)

    def text(self, form: Format) -> bytes:
        """Return all process metrics with their current values, rendered in a format."""
        if not self._changing:
            return b""
        if form not in self._templates:
            constant = render(self._constant, form).replace(b"%", b"%%")
            self._templates[form] = template(self._changing, form) + constant
        return self._templates[form] % self._now()

    def _now(self) -> tuple[float, ...]:
        """Return the current values of the families in CHANGING, in that order."""
        size, resident, _ = os.pread(self._memory, 1024, 0).split(maxsplit=2)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        memory = int(size) * _PAGE_BYTES, int(resident) * _PAGE_BYTES
        return time.process_time(), *memory, self._open_descriptors(limit), limit

    def _open_descriptors(self, limit: int) -> int:
        """Return the number of open file descriptors: from Linux 6.2 on, the size of the directory; before, it is 0."""
        try:
            return os.fstat(self._descriptors).st_size or len(os.listdir(self._descriptors))  # noqa: PTH208 - no Path
        except OSError:
            return limit  # no descriptor is left to list the directory with, so all are in use
