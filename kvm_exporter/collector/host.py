"""Reads through /dev/kvm which leaves this machine's own KVM can offer to guests that run on it.

Source: the kernel's Documentation/virt/kvm/api.rst, KVM_GET_SUPPORTED_CPUID.
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

from kvm_exporter.cpuid.dump import Rows
from kvm_exporter.cpuid.registers import BASES, Registers
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.leaves import Kvm

_GET_SUPPORTED_CPUID = 0xC008_AE05
"""_IOWR(KVMIO, 0x05, struct kvm_cpuid2)"""
_HEADER = struct.Struct("=II")
"""struct kvm_cpuid2: nent, padding."""
_ENTRY = struct.Struct("=7I12x")
"""struct kvm_cpuid_entry2: function, index, flags, eax, ebx, ecx, edx, padding[3]."""
_FIRST_ENTRIES = 256
_MOST_ENTRIES = 1 << 14


def own_kvm(root: Path = Path("/")) -> Kvm | None:
    """Return the feature leaf in supported_cpuid(), without bits if KVM reports no such leaf.

    KVM reports it at the first base, although a VMM may give guests another base. Raises ReadError likewise.
    """
    if (supported := supported_cpuid(root)) is None:
        return None
    features = supported.get((BASES.start + 1, 0), Registers(0, 0, 0, 0))
    return Kvm(BASES.start, features.eax, features.edx)


def supported_cpuid(root: Path = Path("/")) -> Rows | None:
    """Return what ``KVM_GET_SUPPORTED_CPUID`` reports, by leaf and subleaf; None if this machine has no /dev/kvm.

    Raises ReadError if /dev/kvm cannot be opened or queried.
    """
    device = root / "dev/kvm"
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
            return None
        raise ReadError(
            f"{device}: {error.strerror}; give the user access to it, on most systems with the group kvm"
        ) from error
    try:
        return _entries(_reply(descriptor))
    except OSError as error:
        raise ReadError(f"{device}: KVM_GET_SUPPORTED_CPUID: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _reply(descriptor: int) -> bytearray:
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


def _entries(reply: bytearray) -> Rows:
    count, _ = _HEADER.unpack_from(reply)
    entries = _ENTRY.iter_unpack(reply[_HEADER.size : _HEADER.size + count * _ENTRY.size])
    return {(leaf, subleaf): Registers(*words) for leaf, subleaf, _, *words in entries}
