"""The kinds of findings: the level of each, its evidence, what follows from it and what to do.

The page, ``show``, JSON and docs/verdicts.md share them. The levels are those of the alerts in dashboards/.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kvm_exporter.kvm.consistency import RULES
from kvm_exporter.kvm.effects import Level, action
from kvm_exporter.kvm.features import feature_named
from kvm_exporter.kvm.outcomes import IDENTITY, Change

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
    "On the host, make sure that /sys/devices/system/clocksource/clocksource0/current_clocksource is tsc, or "
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

OF_CHANGES: Mapping[tuple[Change, Level], Kind] = {
    ("lost", Level.CRITICAL): FEATURE_LOST_DANGEROUS,
    ("lost", Level.WARNING): FEATURE_LOST,
    ("lost", Level.NOTE): FEATURE_LOST_HARMLESS,
    ("gained", Level.WARNING): FEATURE_GAINED_RISKY,
    ("gained", Level.NOTE): FEATURE_GAINED,
}
"""The kind of features that were lost or gained, by the level of the most urgent."""
