"""Runs blocking reads in one daemon thread, and interrupts a read of a CPU on which the thread never gets to run."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol, TypeVar

from kvm_exporter.errors import UnavailableError

VISIT_CHECK_SECONDS = 0.25
"""Interval of the checks, in seconds. A read of one CPU that spans two checks is interrupted."""

T = TypeVar("T")


class Interruptible(Protocol):
    """A reader that may block on one CPU, and can be interrupted from another thread."""

    @property
    def visit(self) -> object | None:
        """An object for the CPU that is being read now, a new one for each CPU; None while no CPU is being read."""
        ...

    def unstick(self) -> None:
        """Make the read of the current CPU fail. Called from another thread than the reading one."""
        ...


class Worker:
    """Runs jobs one after the other in a thread of its own, so that the event loop's thread is never pinned.

    It is a daemon thread, because a read on a CPU that a real-time task monopolises may never return, and the
    interpreter would wait at exit for the event loop's default executor. Raises UnavailableError if the thread cannot
    be started.
    """

    def __init__(self, reader: Interruptible) -> None:
        self._reader = reader
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        try:
            threading.Thread(target=self._run, name="kvm-reader", daemon=True).start()
        except RuntimeError as error:
            raise UnavailableError(
                f"cannot start the reading thread: {error}; raise the limit (TasksMax=, ulimit -u)"
            ) from error

    def submit(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a job. Call this in the event loop; the future gets the job's result or its exception."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 - any exception of the job goes to the future
                _call_in_loop(loop, _settle, future, future.set_exception, error)
            else:
                _call_in_loop(loop, _settle, future, future.set_result, result)

        self._jobs.put(work)
        watch = loop.create_task(self._watch())
        future.add_done_callback(lambda _: watch.cancel())
        return future

    def _run(self) -> None:
        while True:
            self._jobs.get()()

    async def _watch(self) -> None:
        """Interrupt each read of one CPU that spans two checks. Runs until it is cancelled."""
        before: object | None = None
        while True:
            visit = self._reader.visit
            if visit is not None and visit is before:
                self._reader.unstick()
            before = visit
            await asyncio.sleep(VISIT_CHECK_SECONDS)


A = TypeVar("A")


def _call_in_loop(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        return  # the loop is closed: the process is exiting


def _settle(future: asyncio.Future[T], setter: Callable[[A], None], argument: A) -> None:
    if not future.done():
        setter(argument)
