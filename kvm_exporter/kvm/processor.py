"""The processor as CPUID's basic leaves name it: vendor and family.

Source: Intel SDM volume 2, CPUID, leaves 0 and 1; AMD APM volume 3, appendix E.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct

from kvm_exporter.cpuid.registers import Registers
from kvm_exporter.kvm.leaves import printable

_VENDOR = Struct("<3I")
_EXTENDED_FAMILY = 0xF
"""The base family that says that the extended family counts as well."""


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor's vendor and family as a dump has them; None where it lacks the leaf."""

    #: Twelve characters, such as GenuineIntel, with ``\xNN`` for each that cannot be printed: EBX, EDX, ECX of leaf 0.
    vendor: str | None = None
    #: Base and extended family: EAX of leaf 1.
    family: int | None = None


UNKNOWN = Processor()


def read_processor(rows: Mapping[tuple[int, int], Registers]) -> Processor:
    """The processor of one CPU's rows, by leaf and subleaf."""
    vendor = family = None
    if (names := rows.get((0, 0))) is not None:
        vendor = printable(_VENDOR.pack(names.ebx, names.edx, names.ecx)) or None
    if (version := rows.get((1, 0))) is not None and version.eax:
        base = version.eax >> 8 & 0xF
        family = base + (version.eax >> 20 & 0xFF if base == _EXTENDED_FAMILY else 0)
    return Processor(vendor, family)
