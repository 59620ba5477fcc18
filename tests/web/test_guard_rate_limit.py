"""The token bucket of kvm_exporter.web.guard, compared with Go's, on a simulated clock; and durations."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.config.duration import nanoseconds
from kvm_exporter.config.web import RateLimit
from kvm_exporter.web.guard import TokenBucket

SECOND = 10**9


class Clock:
    """A simulated clock, in nanoseconds."""

    def __init__(self) -> None:
        self.now = 7 * SECOND

    def __call__(self) -> int:
        """Return the time."""
        return self.now


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("0s", 0),
        ("1ns", 1),
        ("1us", 1000),
        ("1µs", 1000),
        ("1μs", 1000),
        ("500ms", SECOND // 2),
        ("1s", SECOND),
        ("1.5s", 3 * SECOND // 2),
        (".5s", SECOND // 2),
        ("1.s", SECOND),
        ("1m30s", 90 * SECOND),
        ("1h15m30.918273645s", 4530_918_273_645),
        ("0.9ns", 0),
        ("0.3333333333333333333h", 1_199_999_999_999),
        ("1s1h", 3601 * SECOND),
        ("2562047h47m16.854775807s", 2**63 - 1),
    ],
)
def test_durations_are_go_s(text: str, expected: int) -> None:
    """Source: time.ParseDuration and its tests."""
    assert nanoseconds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "00",
        "s",
        ".s",
        "1 s",
        "-1s",
        "+1s",
        "1d",
        "1S",
        "\N{ARABIC-INDIC DIGIT ONE}s",
        "1e3s",
        "1s ",
        "1_0s",
        "2562047h47m16.854775808s",
        "9" * 5000 + "s",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """The error gives an example of a duration."""
    with pytest.raises(ValueError, match=r"; use (one|a shorter duration,) such as 60s, 1m30s or 500ms"):
        nanoseconds(text)


def test_a_burst_and_then_one_each_interval() -> None:
    """The bucket starts full, and a refusal takes no token. Source: Go's x/time/rate, TestLimiterBurst."""
    clock = Clock()
    bucket = TokenBucket(RateLimit(SECOND, 3), clock)
    assert [bucket.allow() for _ in range(5)] == [True, True, True, False, False]
    clock.now += SECOND - 1
    assert not bucket.allow()
    clock.now += 1
    assert [bucket.allow(), bucket.allow()] == [True, False]
    clock.now += 2 * SECOND
    assert [bucket.allow() for _ in range(3)] == [True, True, False]


def test_no_more_gathers_than_a_burst() -> None:
    """The number of tokens never exceeds the burst, however long the pause is."""
    clock = Clock()
    bucket = TokenBucket(RateLimit(SECOND, 2), clock)
    clock.now += 10**6 * SECOND
    assert [bucket.allow() for _ in range(3)] == [True, True, False]


def test_the_real_clock_runs() -> None:
    """With the real clock a token of a microsecond is refilled during the test, and one of an hour is not."""
    bucket = TokenBucket(RateLimit(1000, 1))
    assert sum(bucket.allow() for _ in range(100_000)) > 1
    hourly = TokenBucket(RateLimit(3600 * SECOND, 1))
    assert [hourly.allow(), hourly.allow()] == [True, False]


@given(st.integers(1, 1000), st.integers(1, 20), st.lists(st.integers(0, 2000), max_size=100))
def test_it_is_a_bucket_with_tokens(interval: int, burst: int, pauses: list[int]) -> None:
    """The bucket equals an exact model that counts in units of a token / interval, as Go's does without rounding."""
    clock = Clock()
    bucket = TokenBucket(RateLimit(interval, burst), clock)
    tokens = burst * interval
    answered: deque[int] = deque()
    for pause in pauses:
        clock.now += pause
        tokens = min(burst * interval, tokens + pause)
        allowed = tokens >= interval
        assert bucket.allow() is allowed
        if allowed:
            tokens -= interval
            answered.append(clock.now)
            # Within an interval at most a burst and one refilled token are taken.
            assert len([time for time in answered if time > clock.now - interval]) <= burst + 1
