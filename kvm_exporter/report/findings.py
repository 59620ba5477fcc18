"""What a person has to know first: each finding with its level, its evidence, what follows from it and what to do.

The page, ``show``, JSON and docs/verdicts.md share these kinds. The levels are those of the alerts in dashboards/.
"""

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass

from kvm_exporter.collector.boot import BootReference
from kvm_exporter.collector.observer import Observation
from kvm_exporter.cpuid.cpulist import format_cpu_list
from kvm_exporter.kvm.baseline import Baseline, Violation, violations
from kvm_exporter.kvm.consistency import RULES, inconsistencies
from kvm_exporter.kvm.drift import Difference, same_frequency
from kvm_exporter.kvm.effects import Effect, Level, action
from kvm_exporter.kvm.features import feature_named
from kvm_exporter.kvm.leaves import Leaves
from kvm_exporter.kvm.outcomes import IDENTITY, Change
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import describe, divergences, feature_list, mhz, summary, tsc_words, unread
from kvm_exporter.report.effects import effect_lines

FEW = 4
"""If more CPUs could not be read, they are listed at the end of the page, not at its head."""

REBOOT = action("lost", Level.WARNING)

STABLE_BIT = feature_named("clocksource_stable_bit")


@dataclass(frozen=True, slots=True)
class Kind:
    """What the findings of one kind have in common."""

    name: str
    level: Level
    #: What it rests on.
    evidence: str
    #: What follows from it for the guest.
    follows: str
    #: What to do, in the words with which the runbook of its alert begins; empty where all is well.
    action: str = ""


LEAVES = "KVM's CPUID leaves of each CPU"
FREQUENCY = "the TSC frequency of the pvclock page, or else of the timing leaf (base + 0x10)"
_REFERENCE = f"{LEAVES}, and the boot reference"
_READ_THE_LOG = "Read the exporter's log, and remove the cause."

OK = Kind("ok", Level.OK, LEAVES, "Other leaves, devices and memory are not covered.")
OK_SINCE_BOOT = Kind("ok_since_boot", Level.OK, _REFERENCE, "Other leaves, devices and memory are not covered.")
OK_SINCE_FIRST_SAMPLED = Kind(
    "ok_since_first_sampled",
    Level.UNKNOWN,
    f"{_REFERENCE}, which was taken late after the boot",
    "What the kernel found when it booted is unknown.",
    "Judge the machine with `kvm-exporter check --baseline`, or by `compare` with a dump of its boot.",
)
FIXED_AT_LAUNCH = Kind(
    "fixed_at_launch",
    Level.UNKNOWN,
    "/sys/devices/system/cpu/sev/vmpl, which only guests under SEV-SNP have",
    "CPUID is answered from the launch's table: whether the hypervisor offers something else now is unknown.",
    "Compare the machine's dump with that of its host: `kvm-exporter dump --host`, and `compare`.",
)
NO_SAMPLE = Kind(
    "no_sample",
    Level.CRITICAL,
    "no sample",
    "Nothing is known of the machine.",
    _READ_THE_LOG,
)
SAMPLE_FAILED = Kind(
    "sample_failed",
    Level.WARNING,
    "the last attempt to sample",
    "The values are those of the last good sample, or of an unpinned thread.",
    _READ_THE_LOG,
)
NO_KVM = Kind(
    "no_kvm",
    Level.NOTE,
    "the signatures at all 256 bases",
    "This is not an error: only KVM has these features.",
    "Nothing, unless KVM was expected here.",
)
KVM_GONE = Kind(
    "kvm_gone",
    Level.CRITICAL,
    _REFERENCE,
    "Each feature that the kernel uses may stop working.",
    action("lost", Level.CRITICAL),
)
HYPERVISOR_CHANGED = Kind(
    "hypervisor_changed",
    Level.WARNING,
    _REFERENCE,
    IDENTITY,
    f"Give both hosts the same CPU definition. {REBOOT} "
    "Until then, add no CPU, take none offline and online, and do not suspend it.",
)
FEATURE_LOST_DANGEROUS = Kind(
    "feature_lost_dangerous",
    Level.CRITICAL,
    _REFERENCE,
    "The kernel goes on using a feature that memory or time depends on.",
    action("lost", Level.CRITICAL),
)
FEATURE_LOST = Kind(
    "feature_lost",
    Level.WARNING,
    _REFERENCE,
    "The kernel goes on using a feature without which it may stall or be slower.",
    REBOOT,
)
FEATURE_LOST_HARMLESS = Kind(
    "feature_lost_harmless",
    Level.NOTE,
    _REFERENCE,
    "Under QEMU's defaults nothing follows, or the kernel does not use the feature.",
    "Nothing on the machine. Find out why the hosts differ, before a feature is lost that matters.",
)
FEATURE_GAINED_RISKY = Kind(
    "feature_gained_risky",
    Level.WARNING,
    _REFERENCE,
    "A CPU that comes online, or a resume, enables a feature that the kernel is not prepared for.",
    action("gained", Level.WARNING),
)
FEATURE_GAINED = Kind(
    "feature_gained",
    Level.NOTE,
    _REFERENCE,
    "No harm is known to follow before the next boot.",
    "Nothing on the machine. A machine that boots now may not be able to migrate back to an older host: finish the "
    "roll-out.",
)
TSC_CHANGED = Kind(
    "tsc_changed",
    Level.WARNING,
    f"{FREQUENCY}, and the boot reference, to 250 ppm",
    "A guest whose clock is the TSC counts time with the frequency that it found at boot.",
    f"Compare the machine's clock with another. {REBOOT}",
)
TSC_UNREPORTED = Kind(
    "tsc_unreported",
    Level.UNKNOWN,
    f"{FREQUENCY}, or the boot reference's, is missing",
    "Whether the TSC frequency is the same is unknown.",
    "Compare the machine's clock with another. If it drifts, migrate the machine back, or reboot it, not by kexec.",
)
TSC_CONTRADICTORY = Kind(
    "tsc_contradictory",
    Level.NOTE,
    "the pvclock page and the timing leaf (base + 0x10), to 250 ppm",
    "Linux uses the page's frequency; another kernel may use the leaf's.",
    "Correct the TSC frequency in the CPU definition on the host.",
)
CLOCK_UNSTABLE = Kind(
    "clock_unstable",
    Level.WARNING,
    "the current clocksource, the pvclock page, and the boot reference",
    "Each reading of the time is a system call, and CPUs take turns to keep it from going back.",
    "On the host, see that /sys/devices/system/clocksource/clocksource0/current_clocksource is tsc, or "
    "hyperv_clocksource_tsc_page on Hyper-V. "
    f"If {STABLE_BIT.name} was missing at boot, enable it in the CPU definition, and reboot the machine.",
)
CLOCK_UNKNOWN = Kind(
    "clock_unknown",
    Level.UNKNOWN,
    "the pvclock page could not be read",
    "Whether kvm-clock is stable is unknown.",
    "See whether the kernel was booted with vdso=0, which takes the page away.",
)
USED_NOT_OFFERED = Kind(
    "used_not_offered",
    Level.WARNING,
    "files of the guest kernel in /proc and /sys, and KVM's CPUID leaves",
    "The kernel uses a feature that the hypervisor does not offer. Since when is unknown: it may have been lost before "
    "the first sample.",
    REBOOT,
)
BASELINE_VIOLATED = Kind(
    "baseline_violated",
    Level.WARNING,
    f"{LEAVES}, and the baseline",
    "The features that the machine is offered are not those that its baseline declares.",
    "Correct the CPU definition, then stop the machine and start it again; or correct the baseline.",
)
BASELINE_UNUSABLE = Kind(
    "baseline_unusable",
    Level.UNKNOWN,
    "the baseline's file is not valid",
    "The last valid baseline is in force; without one, nothing is compared.",
    "Correct the file. The exporter reloads it when it changes; no restart is needed.",
)
CPUS_DIFFER = Kind(
    "cpus_differ",
    Level.WARNING,
    LEAVES,
    "The kernel takes some features for granted on all CPUs that the boot CPU has.",
    "Stop the machine and start it again; a reboot is not enough.",
)
CPUS_UNREAD = Kind(
    "cpus_unread",
    Level.WARNING,
    "the attempt to pin a thread to each CPU",
    "What is offered there is unknown.",
    "Remove the cause, or exclude the CPUs with --sample.cpus.",
)
GUEST_UNREAD = Kind(
    "guest_unread",
    Level.UNKNOWN,
    "files of the guest kernel that could not be read",
    "What the guest kernel uses is not known completely.",
    "Let the exporter read /proc and /sys; the log names the files.",
)
REFERENCE_VOLATILE = Kind(
    "reference_volatile",
    Level.NOTE,
    "the boot reference's directory",
    "A restart of the exporter takes a new reference: changes from before it are no longer reported.",
    "Give a directory with RuntimeDirectory= and RuntimeDirectoryPreserve=yes, or with --reference.directory.",
)

INCONSISTENT = {
    rule: Kind(rule.name, Level.WARNING if rule.contradiction else Level.NOTE, LEAVES, rule.follows, rule.action)
    for rule in RULES
}
"""The kind of each rule of kvm/consistency.py."""

_OF_CHANGES: Mapping[tuple[Change, Level], Kind] = {
    ("lost", Level.CRITICAL): FEATURE_LOST_DANGEROUS,
    ("lost", Level.WARNING): FEATURE_LOST,
    ("lost", Level.NOTE): FEATURE_LOST_HARMLESS,
    ("gained", Level.WARNING): FEATURE_GAINED_RISKY,
    ("gained", Level.NOTE): FEATURE_GAINED,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A state or problem of the machine: a clause for the headline, and sentences with the details."""

    kind: Kind
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
        return (Finding(NO_SAMPLE, "no sample yet", (why,)),)
    found = [*_attempt(observation.sample, success=success), *_machine(observation, baseline)]
    if not baseline_valid:
        found.append(Finding(BASELINE_UNUSABLE, "the baseline is not valid"))
    if all(finding.level <= Level.NOTE for finding in found) and observation.sample.common.kvm is not None:
        found.append(_well(observation, changed=bool(observation.since_reference)))
    return tuple(sorted(found, key=lambda finding: -finding.level))


def headline(found: Iterable[Finding]) -> str:
    """Return the clauses of all findings in one line."""
    return _capital("; ".join(finding.clause for finding in found))


def _attempt(sample: Sample, *, success: bool) -> Iterator[Finding]:
    if not success and sample.pinned:
        details = "This page shows the last good sample; see the log of the exporter for the error."
        yield Finding(SAMPLE_FAILED, "last attempt to sample failed", (details,))


def _machine(observation: Observation, baseline: Baseline | None) -> Iterator[Finding]:
    sample = observation.sample
    boot = observation.boot or sample.common
    if sample.common.kvm is None:
        yield _no_kvm(sample.common, boot, observation)
    yield from _since_reference(observation)
    if observation.fixed_at_launch is not None:
        clause = f"leaves fixed at launch ({observation.fixed_at_launch}), changes cannot be seen"
        yield Finding(FIXED_AT_LAUNCH, clause, (FIXED_AT_LAUNCH.follows,))
    yield from _clock(observation)
    if features := observation.used_not_offered:
        details = f"Used, not offered: {feature_list(features)}"
        yield Finding(USED_NOT_OFFERED, f"{_count(features, 'feature')} used, not offered", (details,))
    if baseline is not None and (found := violations(baseline, sample)):
        clause = _count(found, "baseline violation")
        yield Finding(BASELINE_VIOLATED, clause, tuple(_violated(violation, sample) for violation in found))
    yield from divergent(sample)
    yield from _failed(sample)
    change = observation.since_reference
    if not (change.lost or change.gained or change.identity or observation.used_not_offered):
        yield from inconsistent(sample)
    if (guest := observation.collectors.get("guest")) is not None and not guest.success:
        yield Finding(GUEST_UNREAD, "use by the guest kernel not known completely")
    if observation.reference is not None and not observation.persistent:
        yield Finding(REFERENCE_VOLATILE, "boot reference in memory only")


def _no_kvm(common: Leaves, boot: Leaves, observation: Observation) -> Finding:
    details = _capital(summary(common).removeprefix("no KVM: "))
    reference = observation.reference
    if boot.kvm is not None and reference is not None:
        return Finding(KVM_GONE, f"KVM is gone {reference.since}", (details,), reference.changed)
    return Finding(NO_KVM, "no KVM", (details, NO_KVM.follows))


def _since_reference(observation: Observation) -> Iterator[Finding]:
    reference, now = observation.reference, observation.sample.common
    if reference is None:
        return
    change, boot, since = observation.since_reference, reference.leaves, reference.since
    words = _capital(since)
    gone = boot.kvm is not None and now.kvm is None
    if change.identity and not gone:
        details = f"{words}: {describe(Difference(identity=True), boot, now)}"
        yield Finding(HYPERVISOR_CHANGED, f"hypervisor changed {since}", (details,), reference.changed)
    if change.lost:
        details = describe(Difference(lost=change.lost), boot, now, lost=f"Lost {since}:")
        yield _changed("lost", details, observation, reference)
    if change.gained:
        details = describe(Difference(gained=change.gained), boot, now, gained=f"Gained {since}:")
        yield _changed("gained", details, observation, reference)
    if change.tsc is not None:
        kind = TSC_CHANGED if change.tsc_changed else TSC_UNREPORTED
        clause = f"TSC frequency {'changed' if change.tsc_changed else 'not comparable'} {since}"
        yield Finding(kind, clause, (f"{words}: {tsc_words(change.tsc)}",), reference.changed)


def _changed(change: Change, details: str, observation: Observation, reference: BootReference) -> Finding:
    """The finding on all features that were lost, or gained; its level is that of the most urgent."""
    found = tuple(effect for effect in observation.effects if effect.change == change)
    kind = _OF_CHANGES[change, max(effect.level for effect in found)]
    clause = f"{_count(found, 'feature')} {change} {reference.since}"
    return Finding(kind, clause, (details, *effect_lines(found)), reference.changed, found)


def _clock(observation: Observation) -> Iterator[Finding]:
    sample, reference = observation.sample, observation.reference
    clock, leaf_khz = sample.clock, sample.common.tsc_khz
    if sample.common.kvm is None:
        return
    if clock is not None and leaf_khz is not None and not same_frequency(clock.tsc_khz, leaf_khz):
        details = f"TSC {mhz(clock.tsc_khz)} in the pvclock page, {mhz(leaf_khz)} in the timing leaf"
        yield Finding(TSC_CONTRADICTORY, "two TSC frequencies reported by KVM", (details,))
    if not observation.kvmclock_is_current:
        return
    if clock is not None and not clock.stable:
        yield Finding(CLOCK_UNSTABLE, "kvm-clock not stable", ("The pvclock page says that kvm-clock is not stable.",))
    elif reference is not None and not reference.late and not reference.leaves.offers(STABLE_BIT):
        details = f"{STABLE_BIT.title} was missing at boot, so the kernel takes it for unstable."
        yield Finding(CLOCK_UNSTABLE, "kvm-clock used as if not stable", (details,))
    elif clock is None:
        yield Finding(CLOCK_UNKNOWN, "stability of kvm-clock unknown")


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
        yield Finding(CPUS_DIFFER, clause, details)


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
        yield Finding(INCONSISTENT[one.rule], clause, (one.words, one.rule.follows))


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
    yield Finding(CPUS_UNREAD, clause, tuple(details))


def _well(observation: Observation, *, changed: bool) -> Finding:
    sample, reference = observation.sample, observation.reference
    if len(sample.sampled) < sample.online:
        cpus = f"{len(sample.sampled)} of {sample.online} CPUs sampled, all alike"
    else:
        cpus = f"all {sample.online} CPUs alike" if sample.online > 1 else "1 CPU"
    if reference is None or changed or observation.fixed_at_launch is not None:
        return Finding(OK, f"KVM, {cpus}")
    kind = OK_SINCE_FIRST_SAMPLED if reference.late else OK_SINCE_BOOT
    return Finding(kind, f"KVM, {cpus}, nothing changed {reference.since}", (kind.follows,) if reference.late else ())


def _count(items: Sized, noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
