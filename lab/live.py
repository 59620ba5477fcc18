"""A simulated machine that can get stuck like a real one: a test blocks its readings and releases them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kvm_exporter.cpuid.registers import Reader
from lab.patience import PATIENCE_SECONDS
from lab.readers import Machine, kvm_rows, reader


class LiveMachine(Machine):
    """A Source that counts its readings, blocks them or makes them fail, and notes a call of unstick()."""

    def __init__(self, *cpus: Reader | str) -> None:
        super().__init__(dict(enumerate(cpus)))
        #: The error that every reading raises.
        self.fault: Exception | None = None
        self.readings = 0
        self.visit: object | None = None
        self.freed = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def unstick(self) -> None:
        """Note the call, and release the blocked readings."""
        self.freed.set()
        self._open.set()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Wait until readings are not blocked."""
        self.readings += 1
        assert self._open.wait(PATIENCE_SECONDS)
        if self.fault is not None:
            raise self.fault
        yield

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Block the readings that begin in this block until its end."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()


def live_machine(*eax: int) -> LiveMachine:
    """Return a machine under KVM with one CPU per feature word."""
    return LiveMachine(*(reader(kvm_rows(word)) for word in eax))
