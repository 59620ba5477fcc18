"""A decorator for tests that are coroutines."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

from lab.patience import PATIENCE_SECONDS

P = ParamSpec("P")


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run the test in a new event loop, and cancel it after MOST_SECONDS."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), PATIENCE_SECONDS))

    return run


def in_own_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run the test in an event loop whose clock stands still while there is work, and jumps to the next timer.

    Timers go off exactly when they are due, whatever the machine is doing. For tests without threads and sockets.
    """

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=_OwnTime) as runner:
            runner.run(test(*args, **kwargs))

    return run


class _Jumping(selectors.SelectSelector):
    """Does not wait: it moves its clock by the time that it was to wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now."""
        self.now += timeout or 0
        return super().select(0)


class _OwnTime(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, in seconds from 0."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """The time on that clock."""
        return self._jumping.now
