"""One daemon thread that reads, and an eye on it: it is freed from a CPU that never lets it run."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol, TypeVar

from kvm_exporter.errors import UnavailableError

VISIT_CHECK_SECONDS = 0.25
"""A visit that lasts from one check to the next is given up: it has had between one and two of these."""

T = TypeVar("T")


class Interruptible(Protocol):
    """Something that a job may get stuck in."""

    @property
    def visit(self) -> object | None:
        """The visit to a CPU that goes on now; another object at each CPU."""
        ...

    def unstick(self) -> None:
        """From another thread: end that visit."""
        ...


class Worker:
    """Runs jobs one after the other in a thread of its own, so that the event loop's thread is never pinned.

    Not the event loop's default executor: the interpreter waits for that one at the exit, and a read on a CPU that a
    real-time task holds may never come back. Raises UnavailableError where there may be no more threads.
    """

    def __init__(self, holdup: Interruptible) -> None:
        self._holdup = holdup
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        try:
            threading.Thread(target=self._run, name="kvm-reader", daemon=True).start()
        except RuntimeError as error:
            raise UnavailableError(f"no thread to read in: {error}; raise the limit (TasksMax=, ulimit -u)") from error

    def submit(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a job; call it from the event loop. The future gets the job's result or its exception."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 - whatever happens in the job is for the one who waits for it
                _tell(loop, _settle, future, future.set_exception, error)
            else:
                _tell(loop, _settle, future, future.set_result, result)

        self._jobs.put(work)
        watch = loop.create_task(self._watch())
        future.add_done_callback(lambda _: watch.cancel())
        return future

    def _run(self) -> None:
        while True:
            self._jobs.get()()

    async def _watch(self) -> None:
        """Until it is cancelled, free the thread from a CPU where it has been since the last check."""
        before: object | None = None
        while True:
            visit = self._holdup.visit
            if visit is not None and visit is before:
                self._holdup.unstick()
            before = visit
            await asyncio.sleep(VISIT_CHECK_SECONDS)


A = TypeVar("A")


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        return  # the loop is closed: the process is on its way out


def _settle(future: asyncio.Future[T], setter: Callable[[A], None], argument: A) -> None:
    if not future.done():
        setter(argument)
