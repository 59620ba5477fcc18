"""Alerts on what a machine is meant to be: its baseline, its boot switches, its clock, and the clock of a host."""

from labels import OF_BIT, OF_MACHINE

from kvm_exporter.kvm.drift import LATE_SECONDS
from rules.rule import FEATURE, NAME, THIS, Alert

STABLE_BIT = 'register="eax", bit="24"'
"""clocksource_stable_bit: the guest reads it at boot alone, so what counts is whether the boot reference has it."""

INTENT_ALERTS = (
    Alert(
        name="KvmFeatureMissing",
        expression="kvm_baseline_violation == -1",
        wait="5m",
        severity="warning",
        summary=f"{THIS} is not offered {NAME}",
        description=(
            f"The baseline of {THIS} requires {FEATURE}, and the hypervisor does not offer it. Enable it in the CPU "
            "definition, or correct the baseline."
        ),
    ),
    Alert(
        name="KvmFeatureForbidden",
        expression="kvm_baseline_violation == 1",
        wait="5m",
        severity="warning",
        summary=f"{THIS} is offered {NAME}",
        description=(
            f"The baseline of {THIS} forbids {FEATURE}, and the hypervisor offers it. Disable it in the CPU "
            "definition, or correct the baseline."
        ),
    ),
    Alert(
        name="KvmFeatureSwitchedOff",
        # A bit that a switch disables and the hypervisor does not offer has the second series: its use is known.
        expression=f"""
kvm_feature_switched_off == 1
unless on ({OF_BIT}) kvm_unoffered_feature_in_use
""",
        wait="15m",
        severity="info",
        summary=f"A boot switch disables {NAME} on {THIS}",
        description=(
            f"The hypervisor offers {THIS} {FEATURE}, and {{{{ $labels.switch }}}} on the kernel's command line "
            "disables it. Remove the switch and reboot, or silence this alert."
        ),
    ),
    Alert(
        name="KvmClockUnstable",
        expression=f"""
kvm_clocksource_current_is_kvmclock == 1
and on ({OF_MACHINE}) kvm_present == 1
and on ({OF_MACHINE})
(
  kvm_clock_stable == 0
  or on ({OF_MACHINE})
  (
    (
      kvm_boot_feature_changed{{{STABLE_BIT}}} == 1
      or on ({OF_MACHINE})
      (kvm_feature_offered{{{STABLE_BIT}}} == 0 unless on ({OF_MACHINE}) kvm_boot_feature_changed{{{STABLE_BIT}}} == -1)
    )
    and on ({OF_MACHINE}) kvm_boot_reference_uptime_seconds <= {LATE_SECONDS:g}
  )
)
""",
        wait="5m",
        severity="warning",
        summary=f"kvm-clock on {THIS} is not stable",
        description=(
            f"{THIS} uses kvm-clock, and KVM says that it is not stable, or did not offer clocksource_stable_bit (eax "
            "bit 24) at boot. Each reading of the time is a system call. Check that the clocksource of the host is "
            "tsc; if the bit was missing at boot, enable it in the CPU definition, and reboot the machine."
        ),
    ),
    Alert(
        name="KvmHostClockUnstable",
        expression="kvm_host_clocksource_based_on_tsc == 0",
        wait="15m",
        severity="warning",
        summary=f"Guests of {THIS} cannot have a stable kvmclock",
        description=(
            f"The current clocksource of {THIS} is not based on the TSC, and KVM then promises no guest a stable "
            "kvmclock: reading the time is slow there. The kernel log of the host has the reason. If the host is a "
            "guest itself, this is usual."
        ),
    ),
)
