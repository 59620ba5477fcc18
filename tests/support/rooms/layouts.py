"""Complete CPUID layouts for guests on a real KVM; each has one peculiarity.

Most are Intel's, because KVM then returns the highest basic leaf for every leaf that does not exist, as an Intel
processor does. Here the highest basic leaf looks like feature bits, so that reading one leaf too many is detected.
"""

from kvm_exporter.cpuid.dump import Rows
from kvm_exporter.cpuid.registers import Registers
from kvm_exporter.kvm.leaves import KVM_SIGNATURE
from lab.readers import BASE, signature_leaf

MAINLINE = 0x0100_7EFB
"""EAX with every feature that mainline KVM can offer."""

HIGHEST_BASIC_LEAF = Registers(MAINLINE, 0x11, 0x22, 0x33)
"""The registers that KVM returns to an Intel guest for every leaf that does not exist."""

INTEL: Rows = {
    (0x00, 0): signature_leaf(b"GenuntelineI", 0x16),
    (0x01, 0): Registers(0x0003_06A9, 0x0001_0800, 0xFFFA_FBBF, 0xBFEB_FBFF),
    (0x16, 0): HIGHEST_BASIC_LEAF,
}
"""A guest without a hypervisor signature."""

AMD: Rows = {**INTEL, (0x00, 0): signature_leaf(b"AuthcAMDenti", 0x16), (BASE, 0): Registers(0, 0, 0, 0)}
"""The same on AMD: a leaf that does not exist reads as zeros. A dump always has the row of the first base."""

BARE_METAL: Rows = {**INTEL, (0x01, 0): Registers(0x0003_06A9, 0x0001_0800, 0x7FFA_FBBF, 0xBFEB_FBFF)}
"""A machine without the hypervisor bit."""


def signature(base: int, highest: int, name: bytes = KVM_SIGNATURE) -> Rows:
    """Return the signature leaf at a base, with the highest leaf of that base."""
    return {(base, 0): signature_leaf(name, highest)}


def kvm(eax: int = MAINLINE, edx: int = 0, *, base: int = BASE) -> Rows:
    """Return the leaves of a KVM guest with these features and hints."""
    return {**INTEL, **signature(base, base + 1), (base + 1, 0): Registers(eax, 0, 0, edx)}
