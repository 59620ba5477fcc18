"""Who is in the demonstration: machines as recorded dumps show them, and what is wrong with each."""

from collections.abc import Mapping
from dataclasses import dataclass

from kvm_exporter.cpuid.dump import Rows, parse_dump
from kvm_exporter.kvm.features import Feature, feature_named
from lab.guest import Cpus
from lab.tree import dump

FEATURE_LEAF = (0x4000_0001, 0)
"""Leaf and subleaf, where KVM is at the first base."""


@dataclass(frozen=True, slots=True)
class Character:
    """A machine from the beginning on."""

    name: str
    about: str
    cpus: Cpus
    #: Of the baseline's file; empty: it has none.
    baseline: str = ""


def recorded(name: str) -> Rows:
    """The first CPU of a dump."""
    return parse_dump(dump(name).read_bytes()).cpus[0]


def without(rows: Rows, feature: Feature) -> Rows:
    """A CPU that is not offered a feature of EAX."""
    words = rows[FEATURE_LEAF]
    return {**rows, FEATURE_LEAF: words._replace(eax=words.eax & ~feature.mask)}


def two(rows: Rows) -> Cpus:
    """Two CPUs alike."""
    return {0: rows, 1: rows}


QEMU, HYPERV, FIRECRACKER = (
    recorded(name) for name in ("qemu-default-invtsc", "qemu-hyperv-enlightenments", "firecracker-amd-milan-2cpu")
)

STOLEN = feature_named("steal_time")
"""What the first machine loses."""

CAST = (
    Character("plain", "QEMU with its defaults: nothing is wrong with it yet", two(QEMU)),
    Character("hyperv", "QEMU that shows Hyper-V as well, and KVM behind it: nothing is wrong with it", two(HYPERV)),
    Character("firecracker", "Firecracker: nothing is wrong with it", two(FIRECRACKER)),
    Character(
        "uneven",
        f"its CPU 1 is not offered {STOLEN.name}, its CPU 0 is",
        {0: FIRECRACKER, 1: without(FIRECRACKER, STOLEN)},
    ),
    Character(
        "strict",
        "its baseline requires migration_control, which it is not offered, and forbids pv_unhalt, which it is",
        two(FIRECRACKER),
        baseline="features: {required: [migration_control], forbidden: [pv_unhalt]}\n",
    ),
)

PLAIN = CAST[0]

LATER: Mapping[bool, Cpus] = {True: two(without(QEMU, STOLEN)), False: PLAIN.cpus}
"""The first machine, drifted or not."""
