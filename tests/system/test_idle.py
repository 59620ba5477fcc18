"""An idle exporter sleeps: nothing wakes it up but the service manager's watchdog."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from lab.exporter import UNMEASURED, Exporter
from lab.notifications import Notifications, notified_exporter
from lab.proc import sleeps

WATCHDOG_SECONDS = 10
"""Of the service manager; the shipped unit's is six times as long, and costs as many times less."""

IDLE_SECONDS = 60
"""How long both are watched, at the same time."""


@dataclass(frozen=True, slots=True)
class Idleness:
    """What an exporter did while nobody asked it anything."""

    #: How often its threads went to sleep again, each time after something had woken them up.
    sleeps: int
    #: How often it told the service manager that it is alive.
    beats: int


def settled(running: Exporter) -> dict[int, int]:
    """The same, when it has done all that there is to do after the start."""
    before: dict[int, int] = {}
    while (now := sleeps(running)) != before:
        before = now
        time.sleep(WATCHDOG_SECONDS / 10)
    return now


def beats(manager: Notifications) -> int:
    """How often it has said so by now; the socket is empty afterwards."""
    count = 0
    try:
        while True:
            count += "WATCHDOG" in manager.next(0.001)
    except TimeoutError:
        return count


@pytest.fixture(scope="module")
def idle() -> Iterator[dict[str, Idleness]]:
    """Two exporters that have been left alone, one with a watchdog."""
    with ExitStack() as stack:
        exporters = {
            "watched": stack.enter_context(
                notified_exporter(WATCHDOG_USEC=str(WATCHDOG_SECONDS * 1_000_000), **UNMEASURED)
            ),
            "alone": stack.enter_context(notified_exporter(**UNMEASURED)),
        }
        before = {name: settled(running) for name, (running, _) in exporters.items()}
        for _, manager in exporters.values():
            beats(manager)
        end = time.monotonic() + IDLE_SECONDS
        beaten = dict.fromkeys(exporters, 0)
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, WATCHDOG_SECONDS))
            # Few datagrams fit in: unix(7) has a sender wait for who does not receive them.
            for name, (_, manager) in exporters.items():
                beaten[name] += beats(manager)
        after = {name: sleeps(running) for name, (running, _) in exporters.items()}
        assert {name: found.keys() for name, found in after.items()} == {
            name: found.keys() for name, found in before.items()
        }
        yield {
            name: Idleness(sum(after[name].values()) - sum(before[name].values()), beaten[name]) for name in exporters
        }


def test_without_a_watchdog_nothing_wakes_it_up(idle: dict[str, Idleness]) -> None:
    """Not once: no timer, no thread that polls."""
    assert idle["alone"] == Idleness(sleeps=0, beats=0)


def test_a_watchdog_wakes_it_up_twice_in_its_interval(
    idle: dict[str, Idleness], capsys: pytest.CaptureFixture[str]
) -> None:
    """It beats in each half, and sleeps again at once; one that begins and one that ends with the time may be more."""
    halves = IDLE_SECONDS * 2 // WATCHDOG_SECONDS
    found = idle["watched"]
    with capsys.disabled():
        print(f" {found.sleeps} wake-ups for {found.beats} beats in {IDLE_SECONDS} s:", end=" ")  # noqa: T201 - a figure
    assert halves - 1 <= found.beats <= halves + 1
    assert found.sleeps <= halves + 1
