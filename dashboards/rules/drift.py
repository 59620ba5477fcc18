"""Rules on drift: what differs from the first sample of this boot, and CPUs that differ from each other."""

from problems import used_not_offered, vanished
from settings import Settings

from kvm_exporter.kvm.drift import TSC_TOLERANCE
from kvm_exporter.kvm.effects import Level, action
from rules import outcomes
from rules.last import unsampled
from rules.rule import FEATURE, NAME, THIS, VALUE, Alert, Recording, Rule


def drift_rules(settings: Settings) -> tuple[Rule, ...]:
    """Return the rules; what the alerts read is recorded before them."""
    losses = Recording(name=outcomes.LOSSES, expression=outcomes.losses())
    return (losses, unsampled(settings.drift_kept), *drift_alerts(settings))


def drift_alerts(settings: Settings) -> tuple[Alert, ...]:
    """Return the alerts."""
    return (
        Alert(
            name="KvmVanished",
            expression=vanished(),
            wait="1m",
            kept=settings.drift_kept,
            severity="critical",
            summary=f"{THIS} is no longer offered KVM",
            description=(
                f"KVM offered {THIS} features when this boot was first sampled, and now its signature is missing. "
                f"{action('lost', Level.CRITICAL)}"
            ),
        ),
        Alert(
            name="KvmSignatureChanged",
            expression="kvm_boot_signature_changed == 1",
            wait="2m",
            kept=settings.drift_kept,
            severity="warning",
            summary=f"{THIS} sees different hypervisor signatures than when first sampled",
            description=(
                f"A hypervisor signature of {THIS}, or the base of its leaves, differs from the first sample of this "
                "boot. Give both hosts the same CPU definition. Migrate the machine back, or reboot it, not by kexec. "
                "Until then, add no CPU, take none offline and online, and do not suspend it."
            ),
        ),
        Alert(
            name="KvmFeatureLostDangerous",
            expression=outcomes.lost(Level.CRITICAL),
            wait="2m",
            kept=settings.drift_kept,
            severity="critical",
            summary=f"{THIS} lost {NAME}, which it depends on",
            description=(
                f"The hypervisor offered {THIS} {FEATURE} when this boot was first sampled, and does not offer it now. "
                f"At stake: {outcomes.at_stake()}. {action('lost', Level.CRITICAL)}"
            ),
        ),
        Alert(
            name="KvmFeatureLost",
            expression=outcomes.lost(Level.WARNING),
            wait="2m",
            kept=settings.drift_kept,
            severity="warning",
            summary=f"{THIS} lost {NAME}",
            description=(
                f"The hypervisor offered {THIS} {FEATURE} when this boot was first sampled, and does not offer it now. "
                f"If the kernel uses the feature, tasks may stall or be slower. {action('lost', Level.WARNING)}"
            ),
        ),
        Alert(
            name="KvmFeatureLostHarmless",
            expression=outcomes.lost(Level.NOTE),
            wait="15m",
            kept=settings.drift_kept,
            severity="info",
            summary=f"{THIS} lost {NAME}, which is harmless under QEMU's defaults",
            description=(
                f"The hypervisor offered {THIS} {FEATURE} when this boot was first sampled, and does not offer it now. "
                "Under QEMU's defaults nothing follows, or the kernel does not use it. Under a VMM that enforces "
                "CPUID or restores all MSRs, it may matter: see the runbook. Find out why the hosts differ."
            ),
        ),
        Alert(
            name="KvmFeatureUsedNotOffered",
            expression=used_not_offered(),
            wait="5m",
            kept=settings.drift_kept,
            severity="warning",
            summary=f"{THIS} uses {NAME}, which it is not offered",
            description=(
                f"The kernel of {THIS} has enabled {FEATURE}, and the hypervisor does not offer it. It may have been "
                "lost before this boot was first sampled. Migrate the machine back, or reboot it, not by kexec."
            ),
        ),
        Alert(
            name="KvmTscFrequencyChanged",
            expression=f"""
abs((kvm_clock_tsc_frequency_hertz or kvm_tsc_frequency_hertz) - kvm_boot_tsc_frequency_hertz)
> {TSC_TOLERANCE * 1e6:g}e-6 * kvm_boot_tsc_frequency_hertz
""",
            wait="2m",
            kept=settings.drift_kept,
            severity="warning",
            summary=f"The TSC frequency of {THIS} has changed",
            description=(
                f"KVM reports a TSC frequency to {THIS} that differs by {{{{ $value | humanize }}}}Hz from the first "
                "sample of this boot. A kernel or program that counts time by the TSC may be wrong. Compare the clock "
                "of the machine with another one. Migrate the machine back, or reboot it, not by kexec."
            ),
        ),
        Alert(
            name="KvmCpusDiffer",
            expression="kvm_cpus_divergent > 0",
            wait="3m",
            kept=settings.drift_kept,
            severity="warning",
            summary=f"CPUs of {THIS} are offered different features",
            description=(
                f"Number of CPUs of {THIS} that differ from the majority: {VALUE}. Stop the machine and start it "
                "again; a reboot is not enough."
            ),
        ),
    )
