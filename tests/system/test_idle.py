"""An idle exporter sleeps: nothing wakes it up but the service manager's watchdog."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from lab.exporter import UNMEASURED, Exporter
from lab.notifications import Notifications, notified_exporter
from lab.proc import sleeps

BEATS = 12
"""How many are waited for; both exporters are left alone meanwhile."""


@dataclass(frozen=True, slots=True)
class Idleness:
    """What an exporter did while it was not scraped."""

    #: How often its threads went to sleep again, each time after something had woken them up.
    sleeps: int
    #: How often it told the service manager that it is alive.
    beats: int


def settled(running: Exporter, seconds: float) -> dict[int, int]:
    """The sleeps of each thread, when all is done that there is to do after the start; a beat is within the time."""
    before: dict[int, int] = {}
    while (now := sleeps(running)) != before:
        before = now
        time.sleep(seconds)
    return now


def beats(manager: Notifications) -> int:
    """How often it has said so by now; the socket is empty afterwards."""
    return sum("WATCHDOG" in notification for notification in manager.within(0))


# The shipped unit's watchdog is six times as long as the longer one here, and wakes it up as many times less.
@pytest.fixture(scope="module", params=[2, pytest.param(10, marks=pytest.mark.slow)], ids=lambda seconds: f"{seconds}s")
def idle(request: pytest.FixtureRequest) -> Iterator[dict[str, Idleness]]:
    """Two exporters that have been left alone, one with a watchdog."""
    watchdog = int(request.param)
    with ExitStack() as stack:
        exporters = {
            "watched": stack.enter_context(notified_exporter(WATCHDOG_USEC=str(watchdog * 1_000_000), **UNMEASURED)),
            "alone": stack.enter_context(notified_exporter(**UNMEASURED)),
        }
        before = {name: settled(running, watchdog / 10) for name, (running, _) in exporters.items()}
        for _, manager in exporters.values():
            beats(manager)
        for _ in range(BEATS):
            exporters["watched"][1].until("WATCHDOG")
        beaten = {name: beats(manager) for name, (_, manager) in exporters.items()}
        beaten["watched"] += BEATS
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


def test_a_beat_of_the_watchdog_is_few_wake_ups(idle: dict[str, Idleness], figure: Callable[[str], None]) -> None:
    """The event loop's, and that of the thread that sends it; how often it beats, the service manager's tests say."""
    found = idle["watched"]
    figure(f"{found.sleeps} wake-ups for {found.beats} beats")
    assert found.beats >= BEATS
    assert found.sleeps <= 10 * found.beats  # on a busy machine the two threads also wait for each other
