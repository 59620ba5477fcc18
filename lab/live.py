"""A machine of a test that may get stuck, as real ones do: its readings wait at a door that the test opens."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kvm_exporter.cpuid.registers import Reader
from lab.patience import PATIENCE_SECONDS
from lab.readers import Machine, kvm_rows, reader


class LiveMachine(Machine):
    """A Source that counts its readings, lets them wait or fail, and notes that it was helped."""

    def __init__(self, *cpus: Reader | str) -> None:
        super().__init__(dict(enumerate(cpus)))
        #: What every reading fails with.
        self.fault: Exception | None = None
        self.readings = 0
        self.visit: object | None = None
        self.freed = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def give_up(self) -> None:
        """The visit that goes on is ended: whoever waits at the door goes on."""
        self.freed.set()
        self._open.set()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Wait until the door is open."""
        self.readings += 1
        assert self._open.wait(PATIENCE_SECONDS)
        if self.fault is not None:
            raise self.fault
        yield

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Readings that begin in this block do not end before it."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()


def live_machine(*eax: int) -> LiveMachine:
    """CPUs under KVM, one for each feature word."""
    return LiveMachine(*(reader(kvm_rows(word)) for word in eax))
