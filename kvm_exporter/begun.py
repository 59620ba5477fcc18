"""Coroutines that are begun at once: most have nothing to wait for, and need no task and no turn of the event loop.

What Python 3.12 calls an eager task. The first step runs outside of any task: asyncio.timeout() cannot be used in it.
"""

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Begun(Generic[T]):
    """A coroutine after its first step. Raises what it raises there."""

    result: T

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        #: Whether there is a result already.
        self.done = False
        try:
            self._waits_for = coroutine.send(None)
        except StopIteration as end:
            self.result, self.done = end.value, True

    def __await__(self) -> Generator[Any, Any, T]:
        """Go on with it, once: as "yield from" does with a coroutine that has not begun."""
        if self.done:
            return self.result
        waits_for = self._waits_for
        while True:
            failure: BaseException | None = None
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - it is for the coroutine
                failure = error
            try:
                waits_for = self._coroutine.send(None) if failure is None else self._coroutine.throw(failure)
            except StopIteration as end:
                result: T = end.value
                return result
