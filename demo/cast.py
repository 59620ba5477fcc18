"""The machines of the demonstration: their CPUs, from recorded dumps, and the fault of each."""

from collections.abc import Mapping
from dataclasses import dataclass

from kvm_exporter.cpuid.dump import Rows, parse_dump
from kvm_exporter.kvm.features import Feature, feature_named
from lab.guest import Cpus
from lab.tree import dump

FEATURE_LEAF = (0x4000_0001, 0)
"""Leaf and subleaf of the feature leaf, if KVM is at the first base."""


@dataclass(frozen=True, slots=True)
class Character:
    """A machine as it starts."""

    name: str
    about: str
    cpus: Cpus
    #: The text of the baseline file; empty for none.
    baseline: str = ""


def recorded(name: str) -> Rows:
    """Return the leaves of the first CPU of a dump."""
    return parse_dump(dump(name).read_bytes()).cpus[0]


def without(rows: Rows, feature: Feature) -> Rows:
    """Return the leaves of a CPU without a feature of EAX."""
    words = rows[FEATURE_LEAF]
    return {**rows, FEATURE_LEAF: words._replace(eax=words.eax & ~feature.mask)}


def two(rows: Rows) -> Cpus:
    """Return two CPUs with equal leaves."""
    return {0: rows, 1: rows}


QEMU, HYPERV, FIRECRACKER = (
    recorded(name) for name in ("qemu-default-invtsc", "qemu-hyperv-enlightenments", "firecracker-amd-milan-2cpu")
)

STOLEN = feature_named("steal_time")
"""The feature that the first machine loses."""

CAST = (
    Character("plain", "QEMU with its defaults: healthy, until you press Enter", two(QEMU)),
    Character("hyperv", "QEMU with Hyper-V enlightenments and KVM at the second base: healthy", two(HYPERV)),
    Character("firecracker", "Firecracker: healthy", two(FIRECRACKER)),
    Character(
        "uneven",
        f"CPU 0 is offered {STOLEN.name}, CPU 1 is not",
        {0: FIRECRACKER, 1: without(FIRECRACKER, STOLEN)},
    ),
    Character(
        "strict",
        "its baseline requires migration_control, which is not offered, and forbids pv_unhalt, which is offered",
        two(FIRECRACKER),
        baseline="features: {required: [migration_control], forbidden: [pv_unhalt]}\n",
    ),
)

PLAIN = CAST[0]

LATER: Mapping[bool, Cpus] = {True: two(without(QEMU, STOLEN)), False: PLAIN.cpus}
"""The CPUs of the first machine, by whether it has drifted."""
