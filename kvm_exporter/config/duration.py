"""Parse durations in the notation of Go, which the exporter toolkit uses too.

Source: time.ParseDuration of Go. Negative durations are not accepted.
"""

import re
from decimal import Decimal

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_MAX_NANOSECONDS = 2**63 - 1


def nanoseconds(text: str) -> int:
    """Return the nanoseconds of a duration such as ``1s``, ``1m30s``, ``1.5h`` or ``0``.

    Raises ValueError if the text is not a duration or exceeds 63 bits (about 292 years).
    """
    if text == "0":
        return 0
    if not re.fullmatch(f"(?:{_PART})+", text):
        raise ValueError(f"{text!r} is not a duration; use one such as 60s, 1m30s or 500ms")
    total = sum(int(Decimal(number) * _UNITS[unit]) for number, unit in re.findall(_PART, text))
    if total > _MAX_NANOSECONDS:
        raise ValueError(f"{text!r} is longer than 290 years; use a shorter duration, such as 60s, 1m30s or 500ms")
    return total
