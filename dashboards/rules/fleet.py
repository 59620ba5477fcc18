"""Alerts on cohorts of guests and of hosts."""

from settings import Settings

from rules.rule import JOB, THIS, VALUE, Alert


def fleet_alerts(settings: Settings) -> tuple[Alert, ...]:
    """Return the alerts on guests."""
    share = f"{settings.rare_share * 100:g}%"
    return (
        Alert(
            name="KvmFingerprintRare",
            expression=f"""
max without (fingerprint) (
  kvm_fingerprint_info
  and on ({settings.of_fingerprint})
  cohort_fingerprint:kvm_fingerprint_info:share < {settings.rare_share}
)
""",
            wait="1h",
            severity="warning",
            summary=f"{THIS} has a rare feature set in {JOB}",
            description=(
                f"Fewer than {share} of the machines in {JOB} have the same feature set as {THIS}. Check the host "
                "of the machine."
            ),
        ),
        Alert(
            name="KvmFleetMixed",
            expression=f"""
count by ({settings.of_cohort}) (cohort_fingerprint:kvm_fingerprint_info:share >= {settings.rare_share}) > 1
""",
            wait="30m",
            severity="info",
            summary=f"{JOB} has mixed feature sets",
            description=(
                f"Number of feature sets that at least {share} of the machines in {JOB} have each: {VALUE}. "
                "Finish the roll-out. If no roll-out is under way, make the hosts equal."
            ),
        ),
    )


def host_alerts(settings: Settings) -> tuple[Alert, ...]:
    """Return the alerts on hosts."""
    return (
        Alert(
            name="KvmHostsDiffer",
            expression=f"count by ({settings.of_cohort}) (cohort_fingerprint:kvm_host_fingerprint_info:count) > 1",
            wait="30m",
            severity="info",
            summary=f"The hosts in {JOB} can offer different features",
            description=(
                f"Number of feature sets that the KVM of the hosts in {JOB} can offer: {VALUE}. A guest that migrates "
                "between them may lose features. Finish the upgrade of the hosts, or give each migration pool its own "
                "cohort."
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
