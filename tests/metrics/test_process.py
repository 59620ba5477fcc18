"""kvm_exporter.metrics.process: the process metrics of prometheus_client as text with current values."""

import errno
import mmap
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import ProcessCollector

from kvm_exporter.metrics import process as process_metrics
from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.negotiation import Format
from kvm_exporter.metrics.process import ProcessMetrics
from lab.scrape import Scrape

FORMATS = pytest.mark.parametrize("form", Format, ids=lambda form: form.name)


def without_values(text: bytes) -> list[bytes]:
    """Return comments unchanged, and series without their values."""
    return [line if line.startswith(b"#") else line.rpartition(b" ")[0] for line in text.splitlines()]


@FORMATS
def test_the_text_is_prometheus_clients(form: Format) -> None:
    """The text equals that of prometheus_client to the byte, apart from the values."""
    expected = render(ProcessCollector(registry=None).collect(), form)
    assert sorted(without_values(ProcessMetrics().text(form))) == sorted(without_values(expected))
    assert without_values(expected)


def test_the_values_are_prometheus_clients() -> None:
    """The values equal those of prometheus_client within what can change between two reads."""
    metrics = ProcessMetrics()
    mine, theirs = (
        Scrape(text.decode())
        for text in (
            metrics.text(Format.TEXT_0_0_4),
            render(ProcessCollector(registry=None).collect(), Format.TEXT_0_0_4),
        )
    )
    assert mine.names == theirs.names
    near = {"process_cpu_seconds_total": 0.5, "process_resident_memory_bytes": 1 << 22, "process_open_fds": 1}
    for name in theirs.names:
        assert mine.value(name) == pytest.approx(theirs.value(name), rel=0, abs=near.get(name, 0)), name


def now(metrics: ProcessMetrics, name: str) -> float:
    """Return the current value of a metric."""
    return Scrape(metrics.text(Format.TEXT_0_0_4).decode()).value(name)


def test_the_values_are_those_of_the_moment() -> None:
    """Descriptors, CPU time and memory that are used later show in the values."""
    metrics = ProcessMetrics()
    names = ("process_open_fds", "process_cpu_seconds_total", "process_resident_memory_bytes")
    before = [now(metrics, name) for name in names]
    opened = [os.open("/", os.O_RDONLY) for _ in range(7)]
    with mmap.mmap(-1, 16 << 20) as taken:
        # Pages count once they are written. mmap is used because malloc could reuse free memory.
        while now(metrics, names[1]) < before[1] + 0.01:
            taken[:] = bytes([1]) * len(taken)
        after = [now(metrics, name) for name in names]
    for descriptor in opened:
        os.close(descriptor)
    assert after[0] == before[0] + 7
    assert after[2] > before[2] + (8 << 20)
    assert now(metrics, names[0]) == before[0]


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Use up all file descriptors, so that opening any file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    held = []
    try:
        with pytest.raises(OSError, match="Too many open files"):  # noqa: PT012 - the last of them
            while True:
                held.append(os.dup(0))
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_they_are_there_when_no_descriptor_is_left() -> None:
    """The metrics are available without a free descriptor, when they are needed most."""
    metrics = ProcessMetrics()
    with no_descriptor_left():
        scrape = Scrape(metrics.text(Format.TEXT_0_0_4).decode())
    assert scrape.value("process_open_fds") >= scrape.value("process_max_fds") - 3


class OldKernel:
    """The module os before Linux 6.2, where the directory of descriptors has the size 0."""

    def __init__(self, *, full: bool = False) -> None:
        self._full = full

    def fstat(self, _: int) -> os.stat_result:
        """Return a result with the size 0."""
        return os.stat_result([0] * 10)

    def listdir(self, descriptor: int) -> list[str]:
        """List the descriptors, which needs a descriptor itself."""
        if self._full:
            raise OSError(errno.EMFILE, "Too many open files")
        return os.listdir(descriptor)

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)


def test_descriptors_are_counted_on_old_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an old kernel descriptors are counted by listing them; if that fails, the limit is reported."""
    metrics = ProcessMetrics()
    sized = now(metrics, "process_open_fds")
    monkeypatch.setattr(process_metrics, "os", OldKernel())
    assert now(metrics, "process_open_fds") == pytest.approx(sized, abs=1)
    monkeypatch.setattr(process_metrics, "os", OldKernel(full=True))
    assert now(metrics, "process_open_fds") == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@FORMATS
def test_where_prometheus_client_finds_none_there_are_none(form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    """If prometheus_client has no process metrics, as with ProcSubset=pid, the text is empty."""
    monkeypatch.setattr(
        process_metrics, "ProcessCollector", lambda registry: ProcessCollector(proc="/", registry=registry)
    )
    assert ProcessMetrics().text(form) == b""
