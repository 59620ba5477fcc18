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
_ENTRIES = 1024
"""Entries in the buffer. KVM writes at most KVM_MAX_CPUID_ENTRIES, which is 256: kvm_dev_ioctl_get_cpuid()."""


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
    buffer = bytearray(_HEADER.size + _ENTRIES * _ENTRY.size)
    _HEADER.pack_into(buffer, 0, _ENTRIES, 0)
    try:
        fcntl.ioctl(descriptor, _GET_SUPPORTED_CPUID, buffer)
    except OSError as error:
        raise ReadError(f"{device}: KVM_GET_SUPPORTED_CPUID: {error.strerror}") from error
    finally:
        os.close(descriptor)
    count, _ = _HEADER.unpack_from(buffer)
    entries = _ENTRY.iter_unpack(buffer[_HEADER.size : _HEADER.size + count * _ENTRY.size])
    return {(leaf, subleaf): Registers(*words) for leaf, subleaf, _, *words in entries}
