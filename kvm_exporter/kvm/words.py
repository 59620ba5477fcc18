"""Describes leaves and differences in one line of text, for the log, the table and the landing page."""

from collections.abc import Iterable
from datetime import UTC, datetime

from kvm_exporter.cpuid.cpulist import format_cpu_list
from kvm_exporter.kvm.clock import PvClock
from kvm_exporter.kvm.drift import Difference, TscChange, difference
from kvm_exporter.kvm.features import Feature
from kvm_exporter.kvm.host import stated
from kvm_exporter.kvm.leaves import Kvm, Leaves, fingerprint, printable
from kvm_exporter.kvm.sample import Sample


def summary(leaves: Leaves) -> str:
    """Return one line: KVM's base, registers and fingerprint, or what was found instead of KVM."""
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


def host_summary(host: Kvm) -> str:
    """Return one line with the registers and the fingerprint of what a host's KVM can offer."""
    return f"features EAX {host.eax:#010x}, EDX {host.edx:#010x}, fingerprint {fingerprint(stated(host))}"


def describe(change: Difference, before: Leaves, after: Leaves, lost: str = "lost", gained: str = "gained") -> str:
    """Return a difference as text, each feature with its register and bit; ``""`` without a difference.

    ``lost`` and ``gained`` are the words before the features.
    """
    phrases = [
        f"{word} {feature_list(features)}"
        for word, features in ((lost, change.lost), (gained, change.gained))
        if features
    ]
    if change.identity:
        phrases.append(f"{identity(after)} instead of {identity(before)}")
    if change.tsc is not None:
        phrases.append(tsc_words(change.tsc))
    return "; ".join(phrases)


def feature_list(features: Iterable[Feature]) -> str:
    """Features with their registers and bits: ``steal_time (eax bit 5), pv_eoi (eax bit 6)``."""
    return ", ".join(feature.title for feature in features)


def tsc_words(change: TscChange) -> str:
    """A change of the TSC frequency in words."""
    if change.after is None:
        return f"TSC frequency no longer reported by KVM ({mhz(change.before)} before)"
    if change.before is None:
        return f"TSC frequency newly reported by KVM ({mhz(change.after)})"
    ppm = (change.after - change.before) / change.before * 1e6
    return f"TSC {mhz(change.after)} instead of {mhz(change.before)} ({ppm:+.0f} ppm)"


_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def duration_words(seconds: float) -> str:
    """A duration in its largest whole unit, such as ``200 days``."""
    for unit, length in _UNITS:
        if (count := int(seconds // length)) > 0:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "less than a second"


def moment(timestamp: float) -> str:
    """A time such as ``2024-01-01T00:00:00Z``; the seconds since the epoch if it is not in the years 1 to 9999."""
    try:
        return datetime.fromtimestamp(int(timestamp), UTC).isoformat().removesuffix("+00:00") + "Z"
    except (OverflowError, ValueError, OSError):
        return f"{timestamp:g} seconds since the epoch"


def mhz(khz: int | None) -> str:
    """A frequency in MHz, to the kHz."""
    return f"{khz / 1000:.3f} MHz" if khz else "unknown"


def clock_words(clock: PvClock) -> str:
    """What the pvclock page states, in words."""
    return f"kvm-clock {'stable' if clock.stable else 'not stable'}, TSC {mhz(clock.tsc_khz)}"


def cpu_counts(sample: Sample) -> str:
    """Return the number of online CPUs and of those in each state: ``4 online, 3 sampled, 1 failed``."""
    counts = (f"{len(cpus)} {state}" for state, cpus in sample.states.items() if cpus)
    return ", ".join((f"{sample.online} online", *counts))


def unread(sample: Sample) -> str:
    """Why CPUs could not be read: the CPUs of each reason, or else that the settings exclude every online CPU."""
    reasons: dict[str, list[int]] = {}
    for cpu, why in sorted(sample.failed.items()):
        reasons.setdefault(why, []).append(cpu)
    failures = "; ".join(f"CPU {format_cpu_list(cpus)}: {why}" for why, cpus in reasons.items())
    return failures or "the settings exclude every online CPU; change --sample.cpus or --sample.isolated"


def divergences(sample: Sample) -> tuple[tuple[tuple[int, ...], str], ...]:
    """How CPUs differ from the common leaves: the CPUs, and the features that they lack or have in addition."""
    groups: dict[str, list[int]] = {}
    for cpu in sample.divergent:
        groups.setdefault(divergence(sample, cpu), []).append(cpu)
    return tuple((tuple(cpus), words) for words, cpus in groups.items())


def divergence(sample: Sample, cpu: int) -> str:
    """Return as text how a known CPU differs from the common leaves: which features it lacks or has in addition."""
    common, other = sample.common, sample.known[cpu]
    return describe(difference(common, other), common, other, "lacks", "has")


def identity(leaves: Leaves) -> str:
    """The signatures and bases that a CPU has, in words."""
    if leaves.hypervisors:
        return " and ".join(f"{printable(found.signature)} at {found.base:#010x}" for found in leaves.hypervisors)
    return "a hypervisor without a signature" if leaves.hypervisor_bit else "no hypervisor bit"
