"""A deadline that is set anew all the time: it is missed when it says, however often it was moved before."""

import asyncio

import pytest

from kvm_exporter.web.connection import Deadline
from tests.support.rooms.loop import in_own_time

LAST = 10.0
"""Seconds after which nobody waits for a deadline any more."""


async def missed_after(*moves: tuple[float, float | None]) -> float | None:
    """After how many seconds it is missed, or None: moved to so many seconds, or lifted, after waits in seconds."""
    loop = asyncio.get_running_loop()
    missed: asyncio.Future[float] = loop.create_future()
    deadline = Deadline(lambda: missed.set_result(loop.time()))
    start = loop.time()
    for wait, seconds in moves:
        await asyncio.sleep(wait)
        if seconds is None:
            deadline.lift()
        else:
            deadline.within(seconds)
    done, _ = await asyncio.wait({missed}, timeout=LAST)
    return missed.result() - start if done else None


@pytest.mark.parametrize(
    ("moves", "seconds"),
    [
        ([(0, 2)], 2),
        ([(0, 1), (0.5, 3)], 3.5),
        ([(0, 5), (0, 1)], 1),
        ([(0, 1), (0.5, 1), (0.5, 1), (0.5, 1)], 2.5),
        ([(0, 1), (0, None)], None),
        ([(0, 1), (0, None), (2, 1)], 3),
        ([(0, 5), (0, None), (0, 1)], 1),
        ([(0, 0)], 0),
    ],
)
@in_own_time
async def test_it_is_missed_when_it_says(moves: list[tuple[float, float | None]], seconds: float | None) -> None:
    """Put off, brought forward, lifted and set again."""
    assert await missed_after(*moves) == seconds


@in_own_time
async def test_one_that_has_ended_is_not_missed() -> None:
    """Unless it is set again."""
    missed = asyncio.Event()
    deadline = Deadline(missed.set)
    deadline.within(0)
    deadline.end()
    deadline.end()
    await asyncio.sleep(LAST)
    assert not missed.is_set()
    deadline.within(0)
    await missed.wait()
