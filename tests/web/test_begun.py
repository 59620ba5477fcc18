"""Coroutines that are begun at once: what they return, raise and wait for is what it would be in a task."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kvm_exporter.web.connection import Begun
from tests.support.rooms.loop import in_loop


async def waits(*values: int) -> int:
    """The sum, with a wait before each."""
    total = 0
    for value in values:
        await asyncio.sleep(0)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, value)
        total += await future
    return total


async def fails(before: Callable[[], Awaitable[object]] | None = None) -> int:
    """Raise, maybe after a wait."""
    if before is not None:
        await before()
    raise ZeroDivisionError


@in_loop
async def test_what_has_nothing_to_wait_for_is_done_at_once() -> None:
    """And can be awaited all the same."""
    begun = Begun(waits())
    assert (begun.done, begun.result, await begun) == (True, 0, 0)


@in_loop
async def test_what_waits_goes_on_in_a_task() -> None:
    """Any number of times, with what each wait brings."""

    async def go_on(begun: Begun[int]) -> int:
        return await begun

    begun = Begun(waits(1, 2, 3))
    assert not begun.done
    assert await asyncio.create_task(go_on(begun)) == 6


@in_loop
async def test_what_fails_raises() -> None:
    """At the beginning or after a wait."""
    with pytest.raises(ZeroDivisionError):
        Begun(fails())
    begun = Begun(fails(lambda: asyncio.sleep(0)))
    with pytest.raises(ZeroDivisionError):
        await begun


@in_loop
async def test_a_wait_that_fails_is_the_coroutines() -> None:
    """It may catch what comes out of it, and the end that its task is told."""
    caught = []

    async def stubborn(future: asyncio.Future[None]) -> str:
        for _ in range(2):
            try:
                await future
            except (ValueError, asyncio.CancelledError) as error:
                caught.append(type(error))
                future = asyncio.get_running_loop().create_future()
        return "well"

    async def go_on(begun: Begun[str]) -> str:
        return await begun

    first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(go_on(Begun(stubborn(first))))
    first.set_exception(ValueError())
    await asyncio.sleep(0.01)
    task.cancel()
    assert await task == "well"
    assert caught == [ValueError, asyncio.CancelledError]
