"""What the process takes, as text at each scrape: prometheus_client's process metrics, with the values of the moment.

Names, help and start time come from its ProcessCollector, once: at each scrape it would open three files, and what it
yields would have to be rendered. Source: proc_pid_statm(5), time(7), /proc/PID/fd in the kernel's
Documentation/filesystems/proc.rst, and process_collector.py for what the values are.
"""

import os
import resource
import time

from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString

from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.negotiation import Format

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


CHANGING = (
    "process_cpu_seconds",
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
)
"""The families whose values change."""


def python_families() -> tuple[Metric, ...]:
    """``python_info``, which never changes."""
    return tuple(PlatformCollector(registry=None).collect())


class ProcessMetrics:
    """The process metrics of this process; none where prometheus_client finds none."""

    def __init__(self) -> None:
        families = {family.name: family for family in ProcessCollector(registry=None).collect()}
        self._changing = [families.pop(name) for name in CHANGING if name in families]
        self._constant = tuple(families.values())
        #: Per format, the text with a place for each value that changes.
        self._templates: dict[Format, bytes] = {}
        if self._changing:
            # Kept open: what is read from them is fresh each time, also when there is no descriptor left for others.
            self._memory = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
            self._descriptors = os.open("/proc/self/fd", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)

    def text(self, form: Format) -> bytes:
        """All of them in an exposition format, as they are now."""
        if not self._changing:
            return b""
        template = self._templates.get(form)
        if template is None:
            template = b"".join(_with_place(family, form) for family in self._changing)
            template += render(self._constant, form).replace(b"%", b"%%")
            self._templates[form] = template
        return template % tuple(map(_text, self._now()))

    def _now(self) -> tuple[float, ...]:
        """The values of CHANGING."""
        size, resident, _ = os.pread(self._memory, 1024, 0).split(maxsplit=2)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        memory = int(size) * _PAGE_BYTES, int(resident) * _PAGE_BYTES
        return time.process_time(), *memory, self._open_descriptors(most), most

    def _open_descriptors(self, most: int) -> int:
        """From Linux 6.2 on, the size of the directory is their number; before, it is 0."""
        try:
            return os.fstat(self._descriptors).st_size or len(os.listdir(self._descriptors))  # noqa: PTH208 - no Path
        except OSError:
            return most  # there is none left to list them with


def _text(value: float) -> bytes:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text.encode()


def _with_place(family: Metric, form: Format) -> bytes:
    """A family of one sample, with a place for its value: that is the last word."""
    return render((family,), form).rpartition(b" ")[0].replace(b"%", b"%%") + b" %b\n"
