"""Decides when to take a sample, runs one attempt at a time, and keeps the last good one.

Concurrent scrapes share an attempt. If it fails or times out, they get the last good sample.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

from kvm_exporter.collector.observer import Observation
from kvm_exporter.collector.worker import Interruptible, Worker
from kvm_exporter.cpuid.registers import Source
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import unread

Reason = Literal["start", "age", "signal", "hotplug"]
Cause = Literal["timeout", "error"]

K = TypeVar("K", Reason, Cause)

Observe = Callable[[Sample | None], Observation]
"""Takes an observation of the machine, given the last good sample. Runs in the reading thread; raises ReadError."""

Published = Callable[[Observation | None, Observation], None]
"""Called in the event loop with the previous observation, if there is one, and the new one."""

logger = logging.getLogger(__name__)


class LiveSource(Source, Interruptible, Protocol):
    """A Source whose read of a CPU may block, and can be interrupted from another thread."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The maximum age of a sample and the timeout of an attempt, in seconds."""

    #: A scrape that finds an older sample takes a new one; 0 disables that, unless no CPU could be read.
    max_age: float = 60.0
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of attempts, failures and changes since the start, and whether the last attempt succeeded."""

    success: bool = False
    changes: int = 0
    samples: Mapping[Reason, int] = field(
        default_factory=lambda: dict.fromkeys(("start", "age", "signal", "hotplug"), 0)
    )
    failures: Mapping[Cause, int] = field(default_factory=lambda: dict.fromkeys(("timeout", "error"), 0))


@dataclass(slots=True)
class _Attempt:
    future: asyncio.Future[Observation]
    #: The CPUs that were online when the attempt started.
    online: tuple[int, ...]
    #: Done once the attempt has timed out.
    overdue: asyncio.Future[None]


class Sampler:
    """Keeps the last good observation and decides when to take a new one. Use it from one event loop only."""

    def __init__(
        self, source: LiveSource, observe: Observe, limits: Limits, published: Published = lambda _before, _now: None
    ) -> None:
        self.limits = limits
        self.last: Observation | None = None
        self.tally = Tally()
        self._source = source
        self._observe = observe
        self._published = published
        self._worker = Worker(source)
        self._attempt: _Attempt | None = None
        self._online: tuple[int, ...] = ()
        self._queued: Reason | None = None
        self._logged = ""
        #: The exception of the last attempt that failed with one; None before that.
        self.failure: BaseException | None = None

    async def current(self, patience: float) -> Observation | None:
        """Return the observation to serve, after a new attempt if one is due; None before the first good one.

        Waits at most ``patience`` seconds for an attempt, and not at all for one that has already timed out. If the
        wait ends before the attempt, ``tally.success`` is False until the attempt ends.
        """
        if self._attempt is None and (reason := self._due()):
            self._begin(reason)
        if self._attempt is not None:
            await self._wait(self._attempt, patience)
        return self.last

    async def again(self, reason: Reason) -> Observation | None:
        """Take an observation that starts after this call, and return the last good one.

        If a timed-out attempt is still running, return now; the new attempt starts when that one ends.
        """
        running = self._attempt
        if running is not None:
            await self._wait(running, self.limits.timeout)
        if self._attempt is None:
            self._begin(reason)
        if self._attempt is running:
            # It has timed out: start the new attempt when it ends, without waiting here.
            self._queued = reason
        elif self._attempt is not None:
            # Concurrent callers share the attempt that the first of them has started.
            await self._wait(self._attempt, self.limits.timeout)
        return self.last

    def _due(self) -> Reason | None:
        if self.last is None or not (self.limits.max_age or self.last.sample.pinned):
            return "start"
        if self._online_now() != self._online:
            return "hotplug"
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - self.last.sample.boottime
        return "age" if 0 < self.limits.max_age < age else None

    def _begin(self, reason: Reason) -> None:
        self.tally = replace(self.tally, samples=_one_more(self.tally.samples, reason))
        last = self.last.sample if self.last is not None else None
        if last is not None and reason == "signal":
            # A sweep does not try isolated CPUs again that are known to have failed: let it try all.
            last = replace(last, failed={})
        future = self._worker.submit(lambda: self._observe(last))
        loop = asyncio.get_running_loop()
        self._attempt = attempt = _Attempt(future, self._online_now(), loop.create_future())
        timer = loop.call_later(self.limits.timeout, self._time_out, attempt)
        future.add_done_callback(lambda _: timer.cancel())
        future.add_done_callback(lambda _: self._finish(attempt))

    def _online_now(self) -> tuple[int, ...]:
        try:
            return self._source.online()
        except ReadError:
            return ()

    async def _wait(self, attempt: _Attempt, patience: float) -> None:
        if not attempt.overdue.done():
            either: set[asyncio.Future[Any]] = {attempt.future, attempt.overdue}
            await asyncio.wait(either, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not attempt.future.done():
            self.tally = replace(self.tally, success=False)

    def _time_out(self, attempt: _Attempt) -> None:
        attempt.overdue.set_result(None)
        self._fail("timeout", f"timed out after {self.limits.timeout:g} s; is a real-time task monopolising a CPU?")

    def _finish(self, attempt: _Attempt) -> None:
        self._attempt = None
        self._settle(attempt)
        if self._queued is not None:
            reason, self._queued = self._queued, None
            self._begin(reason)

    def _settle(self, attempt: _Attempt) -> None:
        if error := attempt.future.exception():
            self.failure = error
            self._fail("error", str(error), error)
            return
        before, now = self.last, attempt.future.result()
        self.last, self._online = now, attempt.online
        self.tally = replace(self.tally, changes=self.tally.changes + bool(now.changes))
        if now.sample.pinned:
            self.tally = replace(self.tally, success=True)
            self._log_outcome("")
        else:
            self._fail("error", f"no CPU could be read: {unread(now.sample)}")
        self._published(before, now)

    def _fail(self, cause: Cause, why: str, error: BaseException | None = None) -> None:
        self.tally = replace(self.tally, success=False, failures=_one_more(self.tally.failures, cause))
        # Any other exception than a ReadError is a bug in the exporter: log its traceback.
        self._log_outcome(why, None if isinstance(error, ReadError) else error)

    def _log_outcome(self, why: str, error: BaseException | None = None) -> None:
        """Log a failure once until its reason changes, and the first success after it, for which ``why`` is empty."""
        if why and why != self._logged:
            logger.error("the CPUID leaves could not be sampled: %s", why, exc_info=error)
        if self._logged and not why:
            logger.info("the CPUID leaves can be sampled again")
        self._logged = why


def _one_more(counts: Mapping[K, int], key: K) -> dict[K, int]:
    return {**counts, key: counts[key] + 1}
