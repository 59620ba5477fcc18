"""Reads through /dev/kvm which features this machine's own KVM can offer to guests that run on it.

Source: the kernel's Documentation/virt/kvm/api.rst, KVM_GET_SUPPORTED_CPUID.
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

from kvm_exporter.cpuid.registers import Registers
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.features import Feature, features_of

_GET_SUPPORTED_CPUID = 0xC008_AE05
"""_IOWR(KVMIO, 0x05, struct kvm_cpuid2)"""
_HEADER = struct.Struct("=II")
"""struct kvm_cpuid2: nent, padding."""
_ENTRY = struct.Struct("=7I12x")
"""struct kvm_cpuid_entry2: function, index, flags, eax, ebx, ecx, edx, padding[3]."""
_FIRST_ENTRIES = 256
_MOST_ENTRIES = 1 << 14

FEATURE_LEAF = 0x4000_0001
"""The feature leaf in KVM's reply: always at the first base, although a VMM may give guests another base."""


def supported_features(root: Path = Path("/")) -> Registers | None:
    """Return the feature leaf that ``KVM_GET_SUPPORTED_CPUID`` reports; None if this machine has no /dev/kvm.

    It is all zeros if KVM reports no such leaf. Raises ReadError if /dev/kvm cannot be opened or queried.
    """
    device = root / "dev/kvm"
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
            return None
        raise ReadError(
            f"{device}: {error.strerror}; give the exporter's user access to it, or pass --no-collector.host"
        ) from error
    try:
        return _find(_supported(descriptor))
    except OSError as error:
        raise ReadError(f"{device}: KVM_GET_SUPPORTED_CPUID: {error.strerror}") from error
    finally:
        os.close(descriptor)


def host_features(supported: Registers) -> tuple[Feature, ...]:
    """Return the features of EAX in the reply of KVM, supported or not, except those that only a VMM sets."""
    return tuple(feature for feature in features_of(supported.eax, 0) if not feature.vmm_only)


def _supported(descriptor: int) -> bytearray:
    """Return the kernel's whole reply; the buffer is doubled until the reply fits. Raises OSError."""
    entries = _FIRST_ENTRIES
    while True:
        buffer = bytearray(_HEADER.size + entries * _ENTRY.size)
        _HEADER.pack_into(buffer, 0, entries, 0)
        try:
            fcntl.ioctl(descriptor, _GET_SUPPORTED_CPUID, buffer)
        except OSError as error:
            if error.errno != errno.E2BIG or entries >= _MOST_ENTRIES:
                raise
            entries *= 2
        else:
            return buffer


def _find(reply: bytearray) -> Registers:
    count, _ = _HEADER.unpack_from(reply)
    for number in range(count):
        leaf, _, _, eax, ebx, ecx, edx = _ENTRY.unpack_from(reply, _HEADER.size + number * _ENTRY.size)
        if leaf == FEATURE_LEAF:
            return Registers(eax, ebx, ecx, edx)
    return Registers(0, 0, 0, 0)
