"""Makes KVM's pvclock page as the host does: struct pvclock_vcpu_time_info of arch/x86/include/asm/pvclock-abi.h."""

import struct

_STRUCTURE = struct.Struct("<IIQQIbBH")


def pvclock_page(  # noqa: PLR0913 - the fields of the structure
    *,
    tsc_khz: int = 2_600_000,
    flags: int = 1,
    version: int = 92,
    mul: int | None = None,
    shift: int | None = None,
    pad0: int = 0,
    pad: int = 0,
    time: int = 0,
) -> bytes:
    """Return the 32 bytes; ``mul`` and ``shift`` are by default those of the TSC frequency, as KVM computes them."""
    factor, exponent = _time_scale(tsc_khz * 1000)
    if mul is not None:
        factor, exponent = mul, 0
    if shift is not None:
        exponent = shift
    return _STRUCTURE.pack(version, pad0, time, time, factor, exponent, flags, pad)


def _time_scale(hertz: int) -> tuple[int, int]:
    """Return factor and shift: kvm_get_time_scale() of arch/x86/kvm/x86.c, with nanoseconds as the scaled unit."""
    scaled, base, shift = 1_000_000_000, hertz, 0
    while base > scaled * 2 or base >> 32:
        base >>= 1
        shift -= 1
    base &= 0xFFFF_FFFF
    while base <= scaled or scaled >> 32:
        if scaled >> 32 or base & 0x8000_0000:
            scaled >>= 1
        else:
            base <<= 1
        shift += 1
    return (scaled << 32) // base, shift
