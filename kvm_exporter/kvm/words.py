"""Describes leaves and differences in one line of text, for the log, the table and the landing page."""

from kvm_exporter.kvm.drift import Difference, difference
from kvm_exporter.kvm.leaves import Leaves, fingerprint, printable
from kvm_exporter.kvm.sample import Sample


def summary(leaves: Leaves) -> str:
    """Return one line with KVM's base, registers and fingerprint; without KVM, the reason why there is none."""
    if leaves.kvm is not None:
        kvm = leaves.kvm
        features = f"features EAX {kvm.eax:#010x}, EDX {kvm.edx:#010x}"
        return f"KVM at {kvm.base:#010x}, {features}, fingerprint {fingerprint(kvm)}"
    if leaves.hypervisors:
        names = ", ".join(f"{printable(found.signature)!r} at {found.base:#010x}" for found in leaves.hypervisors)
        return f"no KVM: hypervisor signature {names}"
    if leaves.hypervisor_bit:
        return "no KVM: a hypervisor is present, but has no signature"
    return "no KVM: no hypervisor bit in leaf 1 (bare metal, or hidden)"


def describe(change: Difference, before: Leaves, after: Leaves, lost: str = "lost", gained: str = "gained") -> str:
    """Return a difference as text, each feature with its register and bit; ``""`` without a difference.

    ``lost`` and ``gained`` are the words before the features.
    """
    phrases = [
        f"{word} {', '.join(f'{feature.name} ({feature.register} bit {feature.bit})' for feature in features)}"
        for word, features in ((lost, change.lost), (gained, change.gained))
        if features
    ]
    if change.identity:
        phrases.append(f"{_identity(after)} instead of {_identity(before)}")
    return "; ".join(phrases)


def cpu_counts(sample: Sample) -> str:
    """Return the number of online CPUs and of those in each state: ``4 online, 3 sampled, 1 failed``."""
    counts = (f"{len(cpus)} {state}" for state, cpus in sample.states.items() if cpus)
    return ", ".join((f"{sample.online} online", *counts))


def divergence(sample: Sample, cpu: int) -> str:
    """Return as text how a sampled CPU differs from the common leaves: which features it lacks or has in addition."""
    common, other = sample.common, sample.sampled[cpu]
    return describe(difference(common, other), common, other, "lacks", "has")


def _identity(leaves: Leaves) -> str:
    if leaves.hypervisors:
        return " and ".join(f"{printable(found.signature)} at {found.base:#010x}" for found in leaves.hypervisors)
    return "a hypervisor without a signature" if leaves.hypervisor_bit else "no hypervisor bit"
