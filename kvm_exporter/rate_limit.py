"""How often requests are answered: a token bucket.

Source: golang.org/x/time/rate, which the Prometheus exporter toolkit limits with.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_MAX_NANOSECONDS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One token each ``interval`` nanoseconds, and room for ``burst`` of them."""

    interval: int
    burst: int


def nanoseconds(text: str) -> int:
    """A duration as Go writes it: ``1s``, ``1m30s``, ``1.5h``, ``0``. Raises ValueError."""
    if text == "0":
        return 0
    if not re.fullmatch(f"(?:{_PART})+", text):
        raise ValueError(f"{text!r} is not a duration; write one such as 1s, 1m30s or 500ms")
    total = sum(int(Decimal(number) * _UNITS[unit]) for number, unit in re.findall(_PART, text))
    if total > _MAX_NANOSECONDS:
        raise ValueError(f"{text!r} is longer than 290 years; write one such as 1s, 1m30s or 500ms")
    return total


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
