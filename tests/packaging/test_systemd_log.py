"""A log that is not read, in a booted system: scrapes and the watchdog go on; the log says afterwards what it lost."""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from kvm_exporter.web.server import MAX_CONNECTIONS
from lab.proc import wait_until
from tests.support.packaging.container import Container
from tests.support.packaging.installed import arguments
from tests.support.packaging.unit import PORT, Unit, scrape

if TYPE_CHECKING:
    import socket

DROPPED = "kvm_exporter_log_messages_dropped_total"
LOST = "log message(s): nothing read the log in time"

WATCHED = "[Service]\nWatchdogSec=20s\n"
"""The exporter feeds the watchdog every ten seconds."""

FEEDINGS = pytest.mark.parametrize(
    "feedings", [pytest.param(3, id="half a minute"), pytest.param(7, id="a minute", marks=pytest.mark.slow)]
)
"""How often the watchdog is fed while nothing reads the log: for longer than the watchdog waits."""

FIFO = "/run/kvm-exporter-log"


def fill_the_log(system: Container) -> list[float]:
    """Connect until log messages have been dropped for a while; returns how many were, at each of the scrapes.

    At level debug there is a message for each connection that makes room for another one.
    """
    peers: deque[socket.socket] = deque()
    dropped = [0.0]
    try:
        while len(set(dropped)) < 4:
            for _ in range(100):
                peers.append(system.connect(PORT))
                if len(peers) > MAX_CONNECTIONS + 1:
                    peers.popleft().close()  # the server has closed it before
            dropped.append(scrape(system).value(DROPPED))
    finally:
        for peer in peers:
            peer.close()
    return dropped


def hold_still(service: Unit, feedings: int) -> None:
    """Check that scrapes go on while the log is full, until the watchdog has been fed so often."""
    dropped = fill_the_log(service.system)
    assert all(before <= after for before, after in pairwise(dropped))
    seen = {service.show("WatchdogTimestampMonotonic")}
    while len(seen) <= feedings:
        wait_until(lambda: service.show("WatchdogTimestampMonotonic") not in seen)
        seen.add(service.show("WatchdogTimestampMonotonic"))
        assert scrape(service.system).value("kvm_exporter_sample_success") == 1


@contextmanager
def debugging(service: Unit, settings: str = "") -> Iterator[None]:
    """Run the service with debug messages, a short watchdog and other settings; it is never restarted."""
    with arguments(service.system, "--log.level=debug"), service.drop_in(WATCHED + settings):
        service.start()
        yield
        assert (service.show("ActiveState"), service.show("NRestarts")) == ("active", "0")


@FEEDINGS
def test_a_journal_that_stands_still(service: Unit, feedings: int) -> None:
    """With journald stopped nothing else stops; once it goes on, one line says how many messages were lost."""
    journald = Unit(service.system, "systemd-journald.service")
    with debugging(service):
        journald.signal("SIGSTOP")
        try:
            hold_still(service, feedings)
        finally:
            journald.signal("SIGCONT")
        wait_until(lambda: LOST in service.log())
        assert service.log().count(LOST) == 1


@FEEDINGS
def test_a_pipe_that_nobody_reads(service: Unit, feedings: int) -> None:
    """With stderr a full pipe nothing stops either; once it is read, one line says how many messages were lost."""
    system = service.system
    system.run("mkfifo", "-m", "666", FIFO)
    # systemd opens it when there is a reader: fifo(7).
    reader = os.open(system.root / FIFO.lstrip("/"), os.O_RDONLY | os.O_NONBLOCK)
    try:
        with debugging(service, f"StandardError=file:{FIFO}\n"):
            hold_still(service, feedings)
            os.set_blocking(reader, True)
            read = b""
            while LOST.encode() not in read:
                read += os.read(reader, 1 << 16)
        service.stop()
        while data := os.read(reader, 1 << 16):
            read += data
        assert read.count(LOST.encode()) == 1
    finally:
        os.close(reader)
        system.remove(FIFO)
