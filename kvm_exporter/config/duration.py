"""Parse durations in the notation of Go, which the exporter toolkit uses too.

Source: time.ParseDuration of Go. Negative durations are not accepted.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

GO_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
"""The nanoseconds of each unit that Go knows."""

ALL_UNITS = {**GO_UNITS, "d": 24 * 3600 * 10**9, "w": 7 * 24 * 3600 * 10**9}
"""Those, and Prometheus' units of 24 hours and of seven times that."""

_MAX_NANOSECONDS = 2**63 - 1


def nanoseconds(text: str, units: Mapping[str, int] = GO_UNITS) -> int:
    """Return the nanoseconds of a duration such as ``1s``, ``1m30s``, ``1.5h`` or ``0``.

    ``units`` has the nanoseconds of each unit that is accepted. Raises ValueError if the text is not a
    duration or exceeds 63 bits (about 292 years).
    """
    if text == "0":
        return 0
    part = rf"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)({'|'.join(units)})"
    if not re.fullmatch(f"(?:{part})+", text):
        raise ValueError(f"{text!r} is not a duration; use one such as 60s, 1m30s or 500ms")
    total = sum(int(Decimal(number) * units[unit]) for number, unit in re.findall(part, text))
    if total > _MAX_NANOSECONDS:
        raise ValueError(f"{text!r} is longer than 290 years; use a shorter duration, such as 60s, 1m30s or 500ms")
    return total
