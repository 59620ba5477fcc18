"""kvm_exporter.kvm.clock: what KVM's pvclock page states, and which bytes are no such page."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.kvm.clock import PvClock, decode_pvclock
from lab.pvclock import pvclock_page

LINUX_6_18 = bytes.fromhex("5c00000000000000af354bc300000000ab93e14f00000000075e5fd1ff010000")
"""Read in a guest whose TSC Linux calls "tsc: Detected 2445.402 MHz processor"."""


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (LINUX_6_18, PvClock(stable=True, tsc_khz=2_445_402)),
        (pvclock_page(), PvClock(stable=True, tsc_khz=2_600_000)),
        (pvclock_page(flags=0), PvClock(stable=False, tsc_khz=2_600_000)),
        (pvclock_page(flags=2), PvClock(stable=False, tsc_khz=2_600_000)),
        (pvclock_page(flags=3), PvClock(stable=True, tsc_khz=2_600_000)),
        # The factors of pvclock_tsc_khz() where the shift goes up and down.
        (pvclock_page(mul=0x8000_0000, shift=1), PvClock(stable=True, tsc_khz=1_000_000)),
        (pvclock_page(mul=0x8000_0000, shift=-1), PvClock(stable=True, tsc_khz=4_000_000)),
        (pvclock_page(mul=1, shift=31), PvClock(stable=True, tsc_khz=2_000_000)),
        (pvclock_page(tsc_khz=100_000), PvClock(stable=True, tsc_khz=100_000)),
        (pvclock_page(tsc_khz=10_000_000), PvClock(stable=True, tsc_khz=10_000_000)),
        (pvclock_page() + bytes(4064), PvClock(stable=True, tsc_khz=2_600_000)),
        (pvclock_page(version=0), PvClock(stable=True, tsc_khz=2_600_000)),
    ],
)
def test_a_page_states_the_clock(page: bytes, expected: PvClock) -> None:
    """Flags have two assigned bits; the frequency is that of which the factor was made, to the kHz."""
    assert decode_pvclock(page) == expected


@pytest.mark.parametrize(
    "page",
    [
        b"",
        bytes(32),
        pvclock_page()[:31],
        pvclock_page(version=1),
        pvclock_page(version=0xFFFF_FFFF),
        pvclock_page(pad0=1),
        pvclock_page(pad=1),
        pvclock_page(flags=4),
        pvclock_page(flags=0x81),
        pvclock_page(mul=0),
        pvclock_page(mul=1, shift=32),
        pvclock_page(mul=0xFFFF_FFFF, shift=-32),
        pvclock_page(tsc_khz=99_999),
        pvclock_page(tsc_khz=10_000_001),
        pvclock_page(mul=1, shift=20),
        pvclock_page(mul=0xFFFF_FFFF, shift=-31),
    ],
)
def test_what_is_no_clock_page(page: bytes) -> None:
    """An odd version, padding, an unknown flag, or a factor that no TSC has: the bytes are not believed."""
    assert decode_pvclock(page) is None


@given(st.integers(100_000, 10_000_000), st.booleans(), st.integers(0, 2**31 - 1), st.integers(0, 2**64 - 1))
def test_every_frequency_is_read_to_the_khz(tsc_khz: int, stable: bool, half: int, time: int) -> None:  # noqa: FBT001 - hypothesis passes it by position
    """Version and times are any: they say how often and when the host wrote, and nothing of the clock."""
    page = pvclock_page(tsc_khz=tsc_khz, version=2 * half, flags=int(stable), time=time)
    assert decode_pvclock(page) == PvClock(stable, tsc_khz)


@given(st.binary(min_size=32, max_size=32))
def test_any_other_bytes(page: bytes) -> None:
    """Whatever is believed has the version, padding, flags, shift and frequency that it needs."""
    if decode_pvclock(page) is not None:
        version, pad0, shift, flags, pad = struct.unpack("<II20xbBH", page)
        assert (version % 2, pad0, pad, flags & ~3) == (0, 0, 0, 0)
        assert -31 <= shift <= 31
