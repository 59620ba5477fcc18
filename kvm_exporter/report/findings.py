"""What a person has to know first: the findings on an observation, the most urgent first.

The page, ``show``, ``check`` and JSON share them.
"""

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass

from kvm_exporter.collector.boot import BootReference
from kvm_exporter.collector.observer import Observation
from kvm_exporter.cpuid.cpulist import format_cpu_list
from kvm_exporter.kvm.baseline import Baseline, Violation, violations
from kvm_exporter.kvm.consistency import inconsistencies
from kvm_exporter.kvm.drift import Difference, same_frequency
from kvm_exporter.kvm.effects import Effect, Level
from kvm_exporter.kvm.leaves import Leaves
from kvm_exporter.kvm.outcomes import Change
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import describe, divergences, feature_list, mhz, summary, tsc_words, unread
from kvm_exporter.report import kinds
from kvm_exporter.report.effects import effect_lines
from kvm_exporter.report.kinds import STABLE_BIT

FEW = 4
"""If more CPUs could not be read, they are listed at the end of the page, not at its head."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A state or problem of the machine: a clause for the headline, and sentences with the details."""

    kind: kinds.Kind
    clause: str
    details: tuple[str, ...] = ()
    #: When it was first seen, in seconds since the epoch; None if that is not known.
    since: float | None = None
    #: What each feature that was lost or gained does to the guest.
    effects: tuple[Effect, ...] = ()

    @property
    def level(self) -> Level:
        """How urgent it is."""
        return self.kind.level


def findings(
    observation: Observation | None, baseline: Baseline | None, *, success: bool, baseline_valid: bool = True
) -> tuple[Finding, ...]:
    """Return at least one finding, the most urgent first.

    ``observation`` is None before the first sample, ``baseline`` without a baseline file. ``success`` says whether the
    last attempt to sample succeeded, ``baseline_valid`` whether the last load of the baseline file did.
    """
    if observation is None:
        why = "CPUID has not been read successfully yet; see the log of the exporter."
        return (Finding(kinds.NO_SAMPLE, "no sample yet", (why,)),)
    found = [*_attempt(observation.sample, success=success), *_machine(observation, baseline)]
    if not baseline_valid:
        found.append(Finding(kinds.BASELINE_UNUSABLE, "the baseline is not valid"))
    if all(finding.level <= Level.NOTE for finding in found) and observation.sample.common.kvm is not None:
        found.append(_well(observation, changed=bool(observation.since_reference)))
    return tuple(sorted(found, key=lambda finding: -finding.level))


def headline(found: Iterable[Finding]) -> str:
    """Return the clauses of all findings in one line."""
    return _capital("; ".join(finding.clause for finding in found))


def _attempt(sample: Sample, *, success: bool) -> Iterator[Finding]:
    if not success and sample.pinned:
        details = "This page shows the last good sample; see the log of the exporter for the error."
        yield Finding(kinds.SAMPLE_FAILED, "last attempt to sample failed", (details,))


def _machine(observation: Observation, baseline: Baseline | None) -> Iterator[Finding]:
    sample = observation.sample
    boot = observation.boot or sample.common
    if sample.common.kvm is None:
        yield _no_kvm(sample.common, boot, observation)
    yield from _since_reference(observation)
    if observation.fixed_at_launch is not None:
        clause = f"leaves fixed at launch ({observation.fixed_at_launch}), changes cannot be seen"
        yield Finding(kinds.FIXED_AT_LAUNCH, clause, (kinds.FIXED_AT_LAUNCH.follows,))
    yield from _clock(observation)
    if features := observation.used_not_offered:
        details = f"Used, not offered: {feature_list(features)}"
        yield Finding(kinds.USED_NOT_OFFERED, f"{_count(features, 'feature')} used, not offered", (details,))
    if baseline is not None and (found := violations(baseline, sample)):
        clause = _count(found, "baseline violation")
        yield Finding(kinds.BASELINE_VIOLATED, clause, tuple(_violated(violation, sample) for violation in found))
    yield from divergent(sample)
    yield from _failed(sample)
    change = observation.since_reference
    if not (change.lost or change.gained or change.identity or observation.used_not_offered):
        yield from inconsistent(sample)
    if (guest := observation.collectors.get("guest")) is not None and not guest.success:
        yield Finding(kinds.GUEST_UNREAD, "use by the guest kernel not known completely")
    if observation.reference is not None and not observation.persistent:
        yield Finding(kinds.REFERENCE_VOLATILE, "boot reference in memory only")


def _no_kvm(common: Leaves, boot: Leaves, observation: Observation) -> Finding:
    details = _capital(summary(common).removeprefix("no KVM: "))
    reference = observation.reference
    if boot.kvm is not None and reference is not None:
        return Finding(kinds.KVM_GONE, f"KVM is gone {reference.since}", (details,), reference.changed)
    return Finding(kinds.NO_KVM, "no KVM", (details, kinds.NO_KVM.follows))


def _since_reference(observation: Observation) -> Iterator[Finding]:
    reference, now = observation.reference, observation.sample.common
    if reference is None:
        return
    change, boot, since = observation.since_reference, reference.leaves, reference.since
    words = _capital(since)
    gone = boot.kvm is not None and now.kvm is None
    if change.identity and not gone:
        details = f"{words}: {describe(Difference(identity=True), boot, now)}"
        yield Finding(kinds.HYPERVISOR_CHANGED, f"hypervisor changed {since}", (details,), reference.changed)
    if change.lost:
        details = describe(Difference(lost=change.lost), boot, now, lost=f"Lost {since}:")
        yield _changed("lost", details, observation, reference)
    if change.gained:
        details = describe(Difference(gained=change.gained), boot, now, gained=f"Gained {since}:")
        yield _changed("gained", details, observation, reference)
    if change.tsc is not None:
        kind = kinds.TSC_CHANGED if change.tsc_changed else kinds.TSC_UNREPORTED
        clause = f"TSC frequency {'changed' if change.tsc_changed else 'not comparable'} {since}"
        yield Finding(kind, clause, (f"{words}: {tsc_words(change.tsc)}",), reference.changed)


def _changed(change: Change, details: str, observation: Observation, reference: BootReference) -> Finding:
    """The finding on all features that were lost, or gained; its level is that of the most urgent."""
    found = tuple(effect for effect in observation.effects if effect.change == change)
    kind = kinds.OF_CHANGES[change, max(effect.level for effect in found)]
    clause = f"{_count(found, 'feature')} {change} {reference.since}"
    return Finding(kind, clause, (details, *effect_lines(found)), reference.changed, found)


def _clock(observation: Observation) -> Iterator[Finding]:
    sample, reference = observation.sample, observation.reference
    clock, leaf_khz = sample.clock, sample.common.tsc_khz
    if sample.common.kvm is None:
        return
    if clock is not None and leaf_khz is not None and not same_frequency(clock.tsc_khz, leaf_khz):
        details = f"TSC {mhz(clock.tsc_khz)} in the pvclock page, {mhz(leaf_khz)} in the timing leaf"
        yield Finding(kinds.TSC_CONTRADICTORY, "two TSC frequencies reported by KVM", (details,))
    if not observation.kvmclock_is_current:
        return
    if clock is not None and not clock.stable:
        yield Finding(
            kinds.CLOCK_UNSTABLE, "kvm-clock not stable", ("The pvclock page says that kvm-clock is not stable.",)
        )
    elif reference is not None and not reference.late and not reference.leaves.offers(STABLE_BIT):
        details = f"{STABLE_BIT.title} was missing at boot, so the kernel takes it for unstable."
        yield Finding(kinds.CLOCK_UNSTABLE, "kvm-clock used as if not stable", (details,))
    elif clock is None:
        yield Finding(kinds.CLOCK_UNKNOWN, "stability of kvm-clock unknown")


def _violated(violation: Violation, sample: Sample) -> str:
    setting = violation.setting if sample.common.kvm is not None else None
    settings = setting.lines() if setting is not None else ()
    return "; ".join((f"Baseline: {violation.words}", *settings))


def divergent(sample: Sample) -> Iterator[Finding]:
    """Yield a finding if CPUs differ from the common leaves."""
    if groups := divergences(sample):
        number = len(sample.divergent)
        clause = f"{number} CPUs differ" if number > 1 else f"CPU {sample.divergent[0]} differs"
        details = tuple(f"CPU {format_cpu_list(cpus)}: {words}" for cpus, words in groups)
        yield Finding(kinds.CPUS_DIFFER, clause, details)


def inconsistent(sample: Sample) -> Iterator[Finding]:
    """Yield a finding for each rule of kvm/consistency.py that a CPU breaks.

    Where CPUs differ, that a feature is unused is not said: the kernel may use what the boot CPU was offered.
    """
    found = dict.fromkeys(one for leaves in sample.groups or (sample.common,) for one in inconsistencies(leaves))
    for one in found:
        if len(sample.groups) > 1 and not one.rule.contradiction:
            continue
        names = ", ".join(feature.name for feature in one.features)
        clause = f"{'contradictory' if one.rule.contradiction else 'unused'}: {names}"
        yield Finding(kinds.INCONSISTENT[one.rule], clause, (one.words, one.rule.follows))


def _failed(sample: Sample) -> Iterator[Finding]:
    failed = sample.failed
    if sample.pinned and not failed:
        return
    details = [] if sample.pinned else ["The values below were read by an unpinned thread, on whichever CPU it ran."]
    if len(failed) > FEW:
        details.append("The end of this page lists the reason for each CPU.")
    elif not failed:
        details.append(f"{_capital(unread(sample))}.")
    else:
        details += [f"CPU {cpu} failed: {why}" for cpu, why in sorted(failed.items())]
    subject = f"{len(failed)} CPUs" if len(failed) > 1 else f"CPU {min(failed, default=0)}"
    clause = f"{subject} could not be read" if sample.pinned else "no CPU could be read"
    yield Finding(kinds.CPUS_UNREAD, clause, tuple(details))


def _well(observation: Observation, *, changed: bool) -> Finding:
    sample, reference = observation.sample, observation.reference
    if len(sample.sampled) < sample.online:
        cpus = f"{len(sample.sampled)} of {sample.online} CPUs sampled, all alike"
    else:
        cpus = f"all {sample.online} CPUs alike" if sample.online > 1 else "1 CPU"
    if reference is None or changed or observation.fixed_at_launch is not None:
        return Finding(kinds.OK, f"KVM, {cpus}")
    kind = kinds.OK_SINCE_FIRST_SAMPLED if reference.late else kinds.OK_SINCE_BOOT
    return Finding(kind, f"KVM, {cpus}, nothing changed {reference.since}", (kind.follows,) if reference.late else ())


def _count(items: Sized, noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
