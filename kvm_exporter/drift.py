"""Comparisons of leaves and samples, and the fingerprint. Pure."""

import hashlib
import struct

from kvm_exporter.leaves import KVM_SIGNATURE, Kvm
from kvm_exporter.sample import Sample


def agree(earlier: Sample, later: Sample) -> bool:
    """Whether two samples tell the same: the common leaves, and those of each CPU that both sampled."""
    both = earlier.sampled.keys() & later.sampled.keys()
    return earlier.common == later.common and all(earlier.sampled[cpu] == later.sampled[cpu] for cpu in both)


def fingerprint(kvm: Kvm) -> str:
    """What KVM offers as 16 hexadecimal digits, equal on machines that offer the same.

    The first 64 bits of SHA-256 over the signature's 12 bytes, the base, and the feature leaf's EAX and EDX, each of
    these as 32 bits, little endian.
    """
    packed = KVM_SIGNATURE + struct.pack("<III", kvm.base, kvm.eax, kvm.edx)
    return hashlib.sha256(packed).hexdigest()[:16]
