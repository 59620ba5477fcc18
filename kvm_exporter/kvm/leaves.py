"""From registers to meaning: is there a hypervisor, who says so at which base, and what does KVM offer.

Pure: works on any machine with any Reader. Source: the kernel's Documentation/virt/kvm/x86/cpuid.rst and
arch/x86/include/asm/cpuid/api.h (cpuid_base_hypervisor).
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from struct import Struct

from kvm_exporter.cpuid.registers import BASES, HYPERVISOR_BIT, Reader, Registers, read_runs
from kvm_exporter.kvm.features import Feature

_SIGNATURE = Struct("<3I")
"""EBX, ECX, EDX as bytes."""

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
"""Signatures that are believed whatever the highest leaf beside them says: old versions leave it 0."""


@dataclass(frozen=True, slots=True)
class SignatureLeaf:
    """A signature leaf. The highest leaf is not compared: it may change without any offer changing."""

    base: int
    signature: bytes
    #: EAX of the signature leaf as it was read; 0 on old KVM hosts, where it means base + 1.
    max_leaf: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Timing:
    """Leaf base + 0x10: EAX and EBX."""

    tsc_khz: int
    bus_khz: int


@dataclass(frozen=True, slots=True)
class Kvm:
    """What KVM offers at one base: EAX (features) and EDX (hints) of leaf base + 1; both 0 where there is no such leaf.

    Only these three are compared: the rest is no offer.
    """

    base: int
    eax: int
    edx: int
    #: The highest leaf allows the feature leaf.
    has_leaf: bool = field(default=True, compare=False)
    #: None where the highest leaf is below base + 0x10.
    timing: Timing | None = field(default=None, compare=False)

    def offers(self, feature: Feature) -> bool:
        """Whether the feature's bit is set."""
        return bool((self.eax if feature.register == "eax" else self.edx) & feature.mask)


@dataclass(frozen=True, slots=True)
class Leaves:
    """What CPUID says of hypervisors on one CPU. Two are equal if leaf 1's bit, bases, signatures and offers are."""

    hypervisor_bit: bool
    hypervisors: tuple[SignatureLeaf, ...] = ()
    kvm: Kvm | None = None

    def offers(self, feature: Feature) -> bool:
        """Whether KVM offers the feature; without KVM nothing is offered."""
        return self.kvm is not None and self.kvm.offers(feature)


def printable(signature: bytes) -> str:
    r"""A signature's bytes as a label, without NULs at the end; backslashes and all but printable ASCII as ``\xNN``."""
    return "".join(_printable(chr(byte)) for byte in signature.rstrip(b"\0"))


def _printable(character: str) -> str:
    plain = character.isascii() and character.isprintable() and character != "\\"
    return character if plain else f"\\x{ord(character):02x}"


def has_hypervisor(read: Reader) -> bool:
    """ECX bit 31 of leaf 1."""
    return bool(read(1, 0).ecx & HYPERVISOR_BIT)


def find_hypervisors(read: Reader) -> tuple[SignatureLeaf, ...]:
    """Every hypervisor's signature among the 256 bases; none on bare metal, where those leaves mean nothing."""
    if not has_hypervisor(read):
        return ()
    found = (_hypervisor(base, said) for bases, said in read_runs(read, BASES) if any(said) for base in bases)
    return tuple(hypervisor for hypervisor in found if hypervisor)


def read_leaves(read: Reader, expected: Iterable[SignatureLeaf]) -> Leaves:
    """The leaves where ``read`` reads, at bases that are known from find_hypervisors().

    A base whose signature differs here counts as absent here. No leaf above a highest leaf is read: an Intel CPU would
    answer with its highest basic leaf, which looks like feature bits.
    """
    if not has_hypervisor(read):
        return Leaves(hypervisor_bit=False)
    here = ((known, _hypervisor(known.base, read(known.base, 0))) for known in expected)
    hypervisors = tuple(found for known, found in here if found and found == known)
    kvm = next((found for found in hypervisors if found.signature == KVM_SIGNATURE), None)
    return Leaves(hypervisor_bit=True, hypervisors=hypervisors, kvm=_read_kvm(read, kvm) if kvm else None)


def read_cpu(read: Reader, known: tuple[SignatureLeaf, ...]) -> Leaves:
    """The leaves where ``read`` reads, without a scan if the bases are those that are known from elsewhere.

    If one is not, or the first base holds a signature that is not known, the 256 bases are scanned here as well: what a
    CPU is said to offer must not depend on which CPU was scanned first.
    """
    leaves = read_leaves(read, known)
    if not leaves.hypervisor_bit:
        return leaves
    first_is_known = any(hypervisor.base == BASES.start for hypervisor in known)
    surprise = not first_is_known and _hypervisor(BASES.start, read(BASES.start, 0)) is not None
    if surprise or leaves.hypervisors != known:
        return read_leaves(read, find_hypervisors(read))
    return leaves


def _hypervisor(base: int, registers: Registers) -> SignatureLeaf | None:
    """The signature in EBX, ECX, EDX, if that is what they hold.

    A base that nobody uses answers zeros, or on Intel the highest basic leaf: a signature that is not known by name
    needs a highest leaf within its own base.
    """
    eax, *words = registers
    if not any(words):
        return None
    signature = _SIGNATURE.pack(*words)
    named = signature == KVM_SIGNATURE or signature in OTHER_SIGNATURES
    if named or base <= eax < base + BASES.step:
        return SignatureLeaf(base, signature, eax)
    return None


def _read_kvm(read: Reader, kvm: SignatureLeaf) -> Kvm:
    highest = kvm.max_leaf or kvm.base + 1
    if highest < kvm.base + 1:
        return Kvm(kvm.base, 0, 0, has_leaf=False)
    offer = read(kvm.base + 1, 0)
    if highest < kvm.base + 0x10:
        return Kvm(kvm.base, offer.eax, offer.edx)
    timing = read(kvm.base + 0x10, 0)
    return Kvm(kvm.base, offer.eax, offer.edx, timing=Timing(timing.eax, timing.ebx))


def fingerprint(kvm: Kvm) -> str:
    """What KVM offers as 16 hexadecimal digits, equal on machines that offer the same.

    The first 64 bits of SHA-256 over the signature's 12 bytes, the base, and the feature leaf's EAX and EDX, each of
    these as 32 bits, little endian.
    """
    packed = KVM_SIGNATURE + struct.pack("<III", kvm.base, kvm.eax, kvm.edx)
    return hashlib.sha256(packed).hexdigest()[:16]
