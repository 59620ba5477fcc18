"""How often requests are answered: a token bucket.

Source: golang.org/x/time/rate, which the Prometheus exporter toolkit limits with.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One token each ``interval`` nanoseconds, and room for ``burst`` of them."""

    interval: int
    burst: int


class TokenBucket:
    """Full at first. Each request takes a token, or is refused and takes none."""

    def __init__(self, limit: RateLimit, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._limit = limit
        self._clock = clock
        #: When it will be full again; a token is missing for each interval until then.
        self._full = clock()

    def allow(self) -> bool:
        """Whether a request may be answered now."""
        now = self._clock()
        full = max(self._full, now) + self._limit.interval
        if full - now > self._limit.burst * self._limit.interval:
            return False
        self._full = full
        return True
