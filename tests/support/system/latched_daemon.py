"""``python -m tests.support.system.latched_daemon LATCH MAX_AGE TIMEOUT MAX_REQUESTS``: the daemon behind a latch."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kvm_exporter.app import daemon, log
from kvm_exporter.collector.observer import Observer
from kvm_exporter.collector.sampler import Limits
from kvm_exporter.collector.sweep import CpuSelection
from kvm_exporter.web.addresses import TcpAddress
from lab.live import LiveMachine
from lab.readers import kvm_rows, reader

EAX = 0x0100007B


class LatchedMachine(LiveMachine):
    """Readings wait where something listens at the latch's path, until it hangs up."""

    def __init__(self, latch: str) -> None:
        super().__init__(reader(kvm_rows(EAX)), reader(kvm_rows(EAX)))
        self._latch = latch

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Pass the latch."""
        with socket.socket(socket.AF_UNIX) as visitor:
            try:
                visitor.connect(self._latch)
                visitor.recv(1)
            except OSError:
                pass  # it is open, or just opened
        yield


def main() -> None:
    """Serve on a free port."""
    latch, max_age, timeout, max_requests = sys.argv[1:]
    log.configure("info", None)
    options = daemon.Options(
        addresses=[TcpAddress("127.0.0.1", 0)],
        limits=Limits(max_age=float(max_age), timeout=float(timeout)),
        max_requests=int(max_requests),
    )
    machine = LatchedMachine(latch)
    asyncio.run(daemon.serve(options, machine, Observer(machine, CpuSelection(), None, host=False).observe))


if __name__ == "__main__":
    main()
