"""The leaves of whole CPUs that are odd in one way each, for guests on a real KVM.

Most are of Intel's kind, because KVM answers an Intel guest as the processor does: a leaf beyond the highest one reads
as the highest basic leaf. Here that one looks like feature bits, so that a read too many cannot go unnoticed.
"""

from kvm_exporter.cpuid.dump import Rows
from kvm_exporter.cpuid.registers import Registers
from kvm_exporter.kvm.leaves import KVM_SIGNATURE
from lab.readers import BASE, signature_leaf

MAINLINE = 0x0100_7EFB
"""EAX with all that mainline KVM offers."""

HIGHEST_BASIC_LEAF = Registers(MAINLINE, 0x11, 0x22, 0x33)
"""What KVM answers an Intel guest for every leaf that there is not."""

INTEL: Rows = {
    (0x00, 0): signature_leaf(b"GenuntelineI", 0x16),
    (0x01, 0): Registers(0x0003_06A9, 0x0001_0800, 0xFFFA_FBBF, 0xBFEB_FBFF),
    (0x16, 0): HIGHEST_BASIC_LEAF,
}
"""A guest whose hypervisor shows no signature."""

AMD: Rows = {**INTEL, (0x00, 0): signature_leaf(b"AuthcAMDenti", 0x16)}
"""The same; a leaf that there is not reads as zeros."""

BARE_METAL: Rows = {**INTEL, (0x01, 0): Registers(0x0003_06A9, 0x0001_0800, 0x7FFA_FBBF, 0xBFEB_FBFF)}
"""No hypervisor bit either."""


def signature(base: int, highest: int, name: bytes = KVM_SIGNATURE) -> Rows:
    """The row that tells of a hypervisor at a base, and of its highest leaf."""
    return {(base, 0): signature_leaf(name, highest)}


def kvm(eax: int = MAINLINE, edx: int = 0, *, base: int = BASE) -> Rows:
    """A guest of KVM with these features and hints."""
    return {**INTEL, **signature(base, base + 1), (base + 1, 0): Registers(eax, 0, 0, edx)}
