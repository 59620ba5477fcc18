"""Phrases about leaves and samples that the log, the table and the landing page share."""

from kvm_exporter.kvm.drift import Difference, difference
from kvm_exporter.kvm.leaves import Leaves, fingerprint, printable
from kvm_exporter.kvm.sample import Sample


def summary(leaves: Leaves) -> str:
    """What the machine is, in one line: for the log, systemctl status and the head of a table."""
    if leaves.kvm is not None:
        kvm = leaves.kvm
        offer = f"features EAX {kvm.eax:#010x}, EDX {kvm.edx:#010x}"
        return f"KVM at {kvm.base:#010x}, {offer}, fingerprint {fingerprint(kvm)}"
    if leaves.hypervisors:
        names = ", ".join(f"{printable(found.signature)!r} at {found.base:#010x}" for found in leaves.hypervisors)
        return f"no KVM: the hypervisor says {names}"
    if leaves.hypervisor_bit:
        return "no KVM: a hypervisor is present, but shows no signature"
    return "no KVM: no hypervisor bit in leaf 1 (bare metal, or hidden)"


def describe(change: Difference, before: Leaves, after: Leaves, lost: str = "lost", gained: str = "gained") -> str:
    """A difference in words, every feature with its place; ``lost`` and ``gained`` are the verbs."""
    phrases = [
        f"{verb} {', '.join(f'{feature.name} ({feature.register} bit {feature.bit})' for feature in features)}"
        for verb, features in ((lost, change.lost), (gained, change.gained))
        if features
    ]
    if change.identity:
        phrases.append(f"{_identity(after)} instead of {_identity(before)}")
    return "; ".join(phrases)


def cpu_counts(sample: Sample) -> str:
    """How many CPUs are online, and in each state that any is in."""
    counts = (f"{len(cpus)} {state}" for state, cpus in sample.states.items() if cpus)
    return ", ".join((f"{sample.online} online", *counts))


def divergence(sample: Sample, cpu: int) -> str:
    """What a CPU lacks or has beyond the common leaves."""
    common, other = sample.common, sample.sampled[cpu]
    return describe(difference(common, other), common, other, "lacks", "has")


def _identity(leaves: Leaves) -> str:
    if leaves.hypervisors:
        return " and ".join(f"{printable(found.signature)} at {found.base:#010x}" for found in leaves.hypervisors)
    return "a hypervisor without a signature" if leaves.hypervisor_bit else "no hypervisor bit"
