"""Reads hypervisor signatures and KVM's feature leaf through a Reader, and decodes them into Leaves.

The functions run on any machine: the Reader alone decides where registers come from. Source: the kernel's
Documentation/virt/kvm/x86/cpuid.rst and arch/x86/include/asm/cpuid/api.h (cpuid_base_hypervisor).
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from struct import Struct

from kvm_exporter.cpuid.registers import BASES, HYPERVISOR_BIT, Reader, Registers, read_runs
from kvm_exporter.kvm.features import Feature

_SIGNATURE = Struct("<3I")
"""EBX, ECX and EDX, whose 12 bytes are the signature."""

KVM_SIGNATURE = b"KVMKVMKVM\0\0\0"

OTHER_SIGNATURES = frozenset(
    {
        b"Microsoft Hv",
        b"VMwareVMware",
        b"XenVMMXenVMM",
        b"TCGTCGTCGTCG",
        b"bhyve bhyve ",
        b"ACRNACRNACRN",
        b"Linux KVM Hv",
        b" lrpepyh  vr",
    }
)
"""Known signatures. They are accepted with any highest leaf in EAX, because old hypervisors leave EAX 0."""


@dataclass(frozen=True, slots=True)
class SignatureLeaf:
    """A signature at a base. The highest leaf is not compared: it may change while the feature set stays the same."""

    base: int
    signature: bytes
    #: EAX of the signature leaf: the highest leaf of this base. Old KVM hosts report 0, which means base + 1.
    max_leaf: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Timing:
    """Leaf base + 0x10: the frequencies of the TSC (EAX) and of the local APIC's bus (EBX), in kHz."""

    tsc_khz: int
    bus_khz: int


@dataclass(frozen=True, slots=True)
class Kvm:
    """KVM's feature set at one base: EAX (features) and EDX (hints) of leaf base + 1; both 0 without that leaf.

    Two are equal if base, EAX and EDX are: the other values are not part of the feature set.
    """

    base: int
    eax: int
    edx: int
    #: Whether leaf base + 1 exists: the highest leaf is not below it.
    has_leaf: bool = field(default=True, compare=False)
    #: None if the highest leaf is below base + 0x10.
    timing: Timing | None = field(default=None, compare=False)

    def offers(self, feature: Feature) -> bool:
        """Return whether the feature's bit is set."""
        return bool((self.eax if feature.register == "eax" else self.edx) & feature.mask)


@dataclass(frozen=True, slots=True)
class Leaves:
    """The hypervisors that one CPU reports. Two are equal if leaf 1's bit, the bases, signatures and features are."""

    hypervisor_bit: bool
    hypervisors: tuple[SignatureLeaf, ...] = ()
    kvm: Kvm | None = None

    @property
    def tsc_khz(self) -> int | None:
        """The TSC frequency of leaf base + 0x10, in kHz; None if there is no such leaf, or EAX is 0."""
        timing = self.kvm.timing if self.kvm is not None else None
        return timing.tsc_khz or None if timing is not None else None

    def offers(self, feature: Feature) -> bool:
        """Return whether KVM offers the feature; False without KVM."""
        return self.kvm is not None and self.kvm.offers(feature)


def printable(signature: bytes) -> str:
    r"""Return a signature as text without trailing NULs; backslashes and non-printable bytes become ``\xNN``."""
    return "".join(_printable(chr(byte)) for byte in signature.rstrip(b"\0"))


def _printable(character: str) -> str:
    plain = character.isascii() and character.isprintable() and character != "\\"
    return character if plain else f"\\x{ord(character):02x}"


def has_hypervisor(read: Reader) -> bool:
    """Return whether a hypervisor is present: bit 31 of ECX of leaf 1."""
    return bool(read(1, 0).ecx & HYPERVISOR_BIT)


def find_hypervisors(read: Reader) -> tuple[SignatureLeaf, ...]:
    """Scan the 256 bases and return every signature; ``()`` without the hypervisor bit, as on bare metal."""
    if not has_hypervisor(read):
        return ()
    found = (_signature_leaf(base, row) for bases, row in read_runs(read, BASES) if any(row) for base in bases)
    return tuple(leaf for leaf in found if leaf)


def read_leaves(read: Reader, expected: Iterable[SignatureLeaf]) -> Leaves:
    """Read the leaves at the bases of ``expected``, which find_hypervisors() returned.

    A base whose signature is not the expected one is left out. No leaf above a highest leaf is read: Intel CPUs return
    their highest basic leaf for it, which could be mistaken for feature bits.
    """
    if not has_hypervisor(read):
        return Leaves(hypervisor_bit=False)
    pairs = ((leaf, _signature_leaf(leaf.base, read(leaf.base, 0))) for leaf in expected)
    hypervisors = tuple(found for leaf, found in pairs if found and found == leaf)
    kvm = next((found for found in hypervisors if found.signature == KVM_SIGNATURE), None)
    return Leaves(hypervisor_bit=True, hypervisors=hypervisors, kvm=_read_kvm(read, kvm) if kvm else None)


def read_cpu(read: Reader, known: tuple[SignatureLeaf, ...]) -> Leaves:
    """Read the leaves of one CPU, without a scan if its signatures are ``known`` from another CPU.

    If a known signature is missing, or the first base holds an unknown one, the 256 bases are scanned: the result for
    a CPU must not depend on which CPU was scanned first.
    """
    leaves = read_leaves(read, known)
    if not leaves.hypervisor_bit:
        return leaves
    first_is_known = any(hypervisor.base == BASES.start for hypervisor in known)
    unknown_at_first = not first_is_known and _signature_leaf(BASES.start, read(BASES.start, 0)) is not None
    if unknown_at_first or leaves.hypervisors != known:
        return read_leaves(read, find_hypervisors(read))
    return leaves


def _signature_leaf(base: int, registers: Registers) -> SignatureLeaf | None:
    """Return the signature in EBX, ECX, EDX, or None if they hold no signature.

    An unused base reads as zeros, or on Intel CPUs as the highest basic leaf. So an unknown signature is accepted only
    with a highest leaf within the same base.
    """
    eax, *words = registers
    if not any(words):
        return None
    signature = _SIGNATURE.pack(*words)
    is_known = signature == KVM_SIGNATURE or signature in OTHER_SIGNATURES
    if is_known or base <= eax < base + BASES.step:
        return SignatureLeaf(base, signature, eax)
    return None


def _read_kvm(read: Reader, kvm: SignatureLeaf) -> Kvm:
    highest = kvm.max_leaf or kvm.base + 1
    if highest < kvm.base + 1:
        return Kvm(kvm.base, 0, 0, has_leaf=False)
    features = read(kvm.base + 1, 0)
    if highest < kvm.base + 0x10:
        return Kvm(kvm.base, features.eax, features.edx)
    timing = read(kvm.base + 0x10, 0)
    return Kvm(kvm.base, features.eax, features.edx, timing=Timing(timing.eax, timing.ebx))


def fingerprint(kvm: Kvm) -> str:
    """Return 16 hexadecimal digits that are equal for machines with the same base and feature set.

    They are the first 64 bits of SHA-256 over the signature's 12 bytes, the base, and the feature leaf's EAX and EDX,
    these three as 32-bit little-endian words.
    """
    packed = KVM_SIGNATURE + struct.pack("<III", kvm.base, kvm.eax, kvm.edx)
    return hashlib.sha256(packed).hexdigest()[:16]
