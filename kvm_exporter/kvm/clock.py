"""Decodes the page in which KVM states what kvm-clock is: struct pvclock_vcpu_time_info, of the guest's first CPU.

Source: the kernel's arch/x86/include/asm/pvclock-abi.h, arch/x86/include/asm/pvclock.h (pvclock_scale_delta),
arch/x86/kernel/pvclock.c (pvclock_tsc_khz), Documentation/virt/kvm/x86/msr.rst (MSR_KVM_SYSTEM_TIME_NEW).
"""

from dataclasses import dataclass
from struct import Struct

SIZE = 32
"""Bytes of the structure."""

_STRUCTURE = Struct("<IIQQIbBH")
"""version, pad0, tsc_timestamp, system_time, tsc_to_system_mul, tsc_shift, flags, pad."""

_STABLE = 1 << 0
"""PVCLOCK_TSC_STABLE_BIT"""
_GUEST_STOPPED = 1 << 1
"""PVCLOCK_GUEST_STOPPED"""

_SHIFTS = range(-31, 32)
_KHZ = range(100_000, 10_000_001)


@dataclass(frozen=True, slots=True)
class PvClock:
    """What KVM states of kvm-clock and of the TSC that it is computed from."""

    #: Whether the time is the same on all CPUs: set by the host while its own clocksource is the TSC.
    stable: bool
    #: The frequency of the guest's TSC, from the factor that converts its ticks to nanoseconds.
    tsc_khz: int


def decode_pvclock(page: bytes) -> PvClock | None:
    """Return what the first 32 bytes of the page state; None if they cannot be that structure.

    The version has to be even (an odd one means that the host is writing), padding and unknown flags 0, the shift -31
    to 31, and the frequency 0.1 to 10 GHz. Whether the version moved meanwhile is checked by the reader of the page.
    """
    if len(page) < SIZE:
        return None
    version, pad0, _, _, mul, shift, flags, pad = _STRUCTURE.unpack_from(page)
    if version % 2 or pad0 or pad or flags & ~(_STABLE | _GUEST_STOPPED) or shift not in _SHIFTS or not mul:
        return None
    # nanoseconds = (ticks << shift) * mul >> 32, so 10^6 nanoseconds are as many ticks as the frequency has kHz.
    tsc_khz = round(1e6 * 2.0 ** (32 - shift) / mul)
    return PvClock(bool(flags & _STABLE), tsc_khz) if tsc_khz in _KHZ else None
