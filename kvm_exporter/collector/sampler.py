"""When to look: one attempt at a time, shared by all who wait; the last good sample stays when one fails or is late."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeVar

from kvm_exporter.collector.observer import Observation
from kvm_exporter.collector.worker import Interruptible, Worker
from kvm_exporter.cpuid.registers import Source
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.drift import agree
from kvm_exporter.kvm.sample import Sample

Reason = Literal["start", "age", "signal", "hotplug"]
Cause = Literal["timeout", "error"]

K = TypeVar("K", Reason, Cause)

Observe = Callable[[Sample | None], Observation]
"""Looks at the machine, given the last good sample. Runs in the reading thread; raises ReadError."""

Published = Callable[[Observation | None, Observation], None]
"""Is told, in the event loop, of each new observation and the one before."""

logger = logging.getLogger(__name__)


class LiveSource(Source, Interruptible, Protocol):
    """A Source that may get stuck on a CPU, and can be helped."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How old a sample may get, and how long an attempt may take, in seconds."""

    #: 0: never too old.
    max_age: float = 60.0
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of the attempts so far."""

    success: bool = False
    changes: int = 0
    samples: Mapping[Reason, int] = field(
        default_factory=lambda: dict.fromkeys(("start", "age", "signal", "hotplug"), 0)
    )
    failures: Mapping[Cause, int] = field(default_factory=lambda: dict.fromkeys(("timeout", "error"), 0))


@dataclass(slots=True)
class _Attempt:
    future: asyncio.Future[Observation]
    #: The CPUs that were online when it began.
    online: tuple[int, ...]
    #: On time.monotonic().
    begun: float
    overdue: bool = False


class Sampler:
    """Keeps the last good sample and decides when to take another. For one event loop."""

    def __init__(
        self, source: LiveSource, observe: Observe, limits: Limits, published: Published | None = None
    ) -> None:
        self.limits = limits
        self.last: Observation | None = None
        self.tally = Tally()
        self._source = source
        self._observe = observe
        self._published = published or _nobody
        self._worker = Worker(source)
        self._attempt: _Attempt | None = None
        self._online: tuple[int, ...] = ()
        self._owed: Reason | None = None
        self._complaint = ""
        #: Why the last attempt that failed did.
        self.failure: BaseException | None = None

    async def current(self, patience: float) -> Observation | None:
        """The observation to serve, after a new attempt if one is due; None if there has never been a good one.

        Waits at most ``patience`` seconds, and not at all for an attempt that is overdue already.
        """
        if self._attempt is None and (reason := self._due()):
            self._begin(reason)
        if self._attempt is not None:
            await self._wait(self._attempt, patience)
        return self.last

    async def again(self, reason: Reason) -> Observation | None:
        """An observation that was begun after this call."""
        running = self._attempt
        if running is not None:
            await self._wait(running, self.limits.timeout)
        if self._attempt is None:
            self._begin(reason)
        if self._attempt is running:
            # Overdue: it is waited for no more, but what was asked for is done when it ends.
            self._owed = reason
        elif self._attempt is not None:
            # Where many ask at once, the first of them has begun it for all.
            await self._wait(self._attempt, self.limits.timeout)
        return self.last

    def _due(self) -> Reason | None:
        if self.last is None:
            return "start"
        online = self._online_now()
        if online is not self._online and online != self._online:
            return "hotplug"
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - self.last.sample.boottime
        return "age" if 0 < self.limits.max_age < age else None

    def _begin(self, reason: Reason) -> _Attempt:
        self.tally = replace(self.tally, samples=_one_more(self.tally.samples, reason))
        last = self.last.sample if self.last is not None else None
        future = self._worker.submit(lambda: self._observe(last))
        attempt = _Attempt(future, self._online_now(), time.monotonic())
        future.add_done_callback(lambda _: self._finish(attempt))
        self._attempt = attempt
        return attempt

    def _online_now(self) -> tuple[int, ...]:
        try:
            return self._source.online()
        except ReadError:
            return ()

    async def _wait(self, attempt: _Attempt, patience: float) -> None:
        if attempt.overdue:
            return
        left = min(patience, attempt.begun + self.limits.timeout - time.monotonic())
        await asyncio.wait({attempt.future}, timeout=max(left, 0))
        if not attempt.future.done() and not attempt.overdue:
            attempt.overdue = True
            waited = time.monotonic() - attempt.begun
            self._fail("timeout", f"no answer after {waited:.1f} s; is a CPU held by a real-time task?")

    def _finish(self, attempt: _Attempt) -> None:
        self._attempt = None
        self._settle(attempt)
        if self._owed is not None:
            reason, self._owed = self._owed, None
            self._begin(reason)

    def _settle(self, attempt: _Attempt) -> None:
        if error := attempt.future.exception():
            self.failure = error
            self._fail("error", str(error), error)
            return
        before, now = self.last, attempt.future.result()
        self.last, self._online = now, attempt.online
        self._complain("")
        changed = before is not None and not agree(before.sample, now.sample)
        self.tally = replace(self.tally, success=True, changes=self.tally.changes + changed)
        self._published(before, now)

    def _fail(self, cause: Cause, why: str, error: BaseException | None = None) -> None:
        self.tally = replace(self.tally, success=False, failures=_one_more(self.tally.failures, cause))
        # What is no ReadError is a mistake of ours: its traceback is wanted.
        self._complain(why, None if isinstance(error, ReadError) else error)

    def _complain(self, why: str, error: BaseException | None = None) -> None:
        """Log a failure once, however often it repeats, and its end."""
        if why and why != self._complaint:
            logger.error("the CPUID leaves could not be sampled: %s", why, exc_info=error)
        if self._complaint and not why:
            logger.info("the CPUID leaves can be sampled again")
        self._complaint = why


def _one_more(counts: Mapping[K, int], key: K) -> dict[K, int]:
    return {**counts, key: counts[key] + 1}


def _nobody(_before: Observation | None, _now: Observation) -> None:
    """Nobody wants to know."""
