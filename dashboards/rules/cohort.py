"""Rules on cohorts: shares, and alerts on what machines are only together. They read sums, and no series of a machine.

Where several servers share the machines, these rules are evaluated where the sums of all of them meet.
"""

from settings import Settings

from kvm_exporter.kvm.effects import Level
from rules import outcomes
from rules.rule import FEATURE, JOB, NAME, VALUE, Alert, Recording, Rule


def cohort_rules(settings: Settings) -> tuple[Rule, ...]:
    """Return the rules; recordings come before the alerts that read them."""
    return (*_shares(settings), *gained_alerts(settings), *_alerts(settings))


def _shares(settings: Settings) -> tuple[Recording, ...]:
    return (
        Recording(
            name="cohort:kvm_feature_offered:share",
            expression=f"""
sum by ({settings.of_feature}) (cohort:kvm_feature_offered:sum)
/ on ({settings.of_cohort}) group_left ()
(sum by ({settings.of_cohort}) (cohort:kvm_present:sum) > 0)
""",
        ),
        Recording(
            name="cohort:kvm_fingerprint_info:distinct",
            expression=f"""
count by ({settings.of_cohort}) (
  count by ({settings.of_fingerprint}) (cohort_fingerprint:kvm_fingerprint_info:count)
)
""",
        ),
        Recording(
            name="cohort_fingerprint:kvm_fingerprint_info:share",
            expression=f"""
sum by ({settings.of_fingerprint}) (cohort_fingerprint:kvm_fingerprint_info:count)
/ on ({settings.of_cohort}) group_left ()
sum by ({settings.of_cohort}) (cohort_fingerprint:kvm_fingerprint_info:count)
""",
        ),
    )


def gained_alerts(settings: Settings) -> tuple[Alert, ...]:
    """Return the alerts on gained features: one for all machines of a cohort, because a roll-out changes many."""
    return (
        Alert(
            name="KvmFeatureGainedRisky",
            expression=outcomes.gained(Level.WARNING, settings.of_feature),
            wait="2m",
            kept=settings.drift_kept,
            severity="warning",
            summary=f"Running machines of {JOB} gained {NAME}, for which they are not prepared: {VALUE}",
            description=(
                f"These machines are offered {FEATURE} now, and were not offered it when their boot was first sampled. "
                "A CPU that comes online, and all CPUs after a resume, enable it without a handler. Reboot the "
                "machines, not by kexec. Until then, add no CPU, take none offline and online, and do not suspend them."
            ),
        ),
        Alert(
            name="KvmFeatureGained",
            expression=outcomes.gained(Level.NOTE, settings.of_feature),
            wait="15m",
            kept=settings.drift_kept,
            severity="info",
            summary=f"Running machines of {JOB} gained {NAME}: {VALUE}",
            description=(
                f"These machines are offered {FEATURE} now, and were not offered it when their boot was first sampled. "
                "No harm is known to follow before they reboot. Finish the roll-out."
            ),
        ),
    )


def _alerts(settings: Settings) -> tuple[Alert, ...]:
    share = f"{settings.rare_share * 100:g}%"
    return (
        Alert(
            name="KvmExportersDown",
            expression=f"""
sum by (job) (cohort:up:sum) / sum by (job) (cohort:up:count) <= {1 - settings.down_share:g}
and on (job)
sum by (job) (cohort:up:count) - sum by (job) (cohort:up:sum) >= {settings.down_fewest}
""",
            wait="10m",
            severity="critical",
            summary=f"Many exporters of {JOB} cannot be scraped",
            description=(
                f"Prometheus can scrape only {{{{ $value | humanizePercentage }}}} of the exporters of {JOB}. Check "
                "what the others have in common."
            ),
        ),
        Alert(
            name="KvmFingerprintRare",
            expression=f"""
sum by ({settings.of_fingerprint}) (cohort_fingerprint:kvm_fingerprint_info:count)
and on ({settings.of_fingerprint})
cohort_fingerprint:kvm_fingerprint_info:share < {settings.rare_share}
""",
            wait="1h",
            severity="warning",
            summary=f"Machines in {JOB} with a rare feature set: {VALUE}",
            description=(
                f"Fewer than {share} of the machines in {JOB} have the feature set with the fingerprint "
                f"{{{{ $labels.fingerprint }}}}. One of them: {_example(settings)}. Check the hosts of these machines."
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
        Alert(
            name="KvmHostsDiffer",
            expression=f"""
count by ({settings.of_cohort}) (
  count by ({settings.of_fingerprint}) (cohort_fingerprint:kvm_host_fingerprint_info:count)
) > 1
""",
            wait="30m",
            severity="info",
            summary=f"The hosts in {JOB} can offer different features",
            description=(
                f"Number of feature sets that the KVM of the hosts in {JOB} can offer: {VALUE}. A guest that migrates "
                "between them may lose features. Finish the upgrade of the hosts, or give each migration pool its own "
                "cohort."
            ),
        ),
    )


def _example(settings: Settings) -> str:
    """Return a template: the name of a machine with the fingerprint of an alert."""
    labels = (*settings.cohort, "fingerprint")
    matchers = ",".join(f"{label}=%q" for label in labels)
    values = " ".join(f"$labels.{label}" for label in labels)
    query = f'printf "cohort_fingerprint:kvm_fingerprint_info:example{{{matchers}}}" {values} | query'
    return f'{{{{ with {query} }}}}{{{{ . | first | label "instance" }}}}{{{{ else }}}}unknown{{{{ end }}}}'
