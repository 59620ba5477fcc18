"""What the process takes, as text at each scrape: prometheus_client's process metrics, with the values of the moment.

Names, help and start time come from its ProcessCollector, once: at each scrape it would open three files, and what it
yields would have to be rendered. Source: proc_pid_statm(5), getrusage(2), /proc/PID/fd in the kernel's
Documentation/filesystems/proc.rst, and process_collector.py for what the values are.
"""

import os
import resource
from functools import lru_cache

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString

from kvm_exporter.exposition import render
from kvm_exporter.negotiation import Format

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessMetrics:
    """The process metrics of this process; none where prometheus_client finds none."""

    def __init__(self) -> None:
        self._families = tuple(ProcessCollector(registry=None).collect())
        #: Per format, the text with a place for each value that changes.
        self._templates: dict[Format, bytes] = {}
        if self._families:
            # Kept open: what is read from them is fresh each time, also when there is no descriptor left for others.
            self._memory = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
            self._descriptors = os.open("/proc/self/fd", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
            changing = self._now()
            self._changing = [family.name for family in self._families if family.name in changing]

    def text(self, form: Format) -> bytes:
        """All of them in an exposition format, as they are now."""
        if not self._families:
            return b""
        template = self._templates.get(form)
        if template is None:
            texts = (_template(family, form, changes=family.name in self._changing) for family in self._families)
            template = self._templates[form] = b"".join(texts)
        now = self._now()
        return template % tuple([_text(now[name]) for name in self._changing])

    def _now(self) -> dict[str, float]:
        """The values that may change, by family."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        size, resident, _ = os.pread(self._memory, 1024, 0).split(maxsplit=2)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return {
            "process_cpu_seconds": used.ru_utime + used.ru_stime,
            "process_virtual_memory_bytes": int(size) * _PAGE_BYTES,
            "process_resident_memory_bytes": int(resident) * _PAGE_BYTES,
            "process_open_fds": self._open_descriptors(most),
            "process_max_fds": most,
        }

    def _open_descriptors(self, most: int) -> int:
        """From Linux 6.2 on, the size of the directory is their number; before, it is 0."""
        try:
            return os.fstat(self._descriptors).st_size or len(os.listdir(self._descriptors))  # noqa: PTH208 - no Path
        except OSError:
            return most  # there is none left to list them with


@lru_cache(32)
def _text(value: float) -> bytes:
    """Most are what they were at the last scrape."""
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text.encode()


def _template(family: Metric, form: Format, *, changes: bool) -> bytes:
    """A family of one sample, with a place for its value, which is the last word, if that changes."""
    text = render((family,), form).replace(b"%", b"%%")
    return text.rpartition(b" ")[0] + b" %b\n" if changes else text
