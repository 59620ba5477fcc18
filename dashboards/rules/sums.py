"""What is recorded where machines are scraped: sums by cohort, from which all rules on cohorts follow, and rankings.

A sum has no label of a machine, so there are few, however many machines there are. Where several servers share the
machines, each has sums of its own; the rules on cohorts add them.
"""

from labels import OF_MACHINE
from problems import COUNT, NOT_SAMPLED, RANKED, RARE_SINCE, WEIGHT, recorded
from settings import Settings

from rules.rule import Recording


def sums(settings: Settings) -> tuple[Recording, ...]:
    """Return the recording rules."""
    return (
        Recording(name="cohort:up:count", expression=f"count by ({settings.of_cohort}) (up{{{settings.exporters}}})"),
        Recording(name="cohort:up:sum", expression=f"sum by ({settings.of_cohort}) (up{{{settings.exporters}}})"),
        Recording(name="cohort:kvm_present:sum", expression=f"sum by ({settings.of_cohort}) (kvm_present)"),
        Recording(
            name="cohort:kvm_feature_offered:sum",
            expression=f"sum by ({settings.of_feature}) (kvm_feature_offered)",
        ),
        Recording(
            name="cohort_fingerprint:kvm_fingerprint_info:count",
            expression=f"count by ({settings.of_fingerprint}) (kvm_fingerprint_info)",
        ),
        Recording(
            name="cohort_fingerprint:kvm_fingerprint_info:example",
            expression=f"topk by ({settings.of_fingerprint}) (1, kvm_fingerprint_info)",
        ),
        Recording(
            name="cohort_fingerprint:kvm_host_fingerprint_info:count",
            expression=f"count by ({settings.of_fingerprint}) (kvm_host_fingerprint_info)",
        ),
        Recording(
            name="cohort:kvm_boot_feature_changed:lost",
            expression=f"count by ({settings.of_feature}) (kvm_boot_feature_changed == -1)",
        ),
        Recording(
            name="cohort:kvm_boot_feature_changed:gained",
            expression=f"count by ({settings.of_feature}) (kvm_boot_feature_changed == 1)",
        ),
        Recording(
            name="cohort:kvm_boot_feature_changes:drifted",
            expression=f"""
sum by ({settings.of_cohort}) (
  sum without (change) (kvm_boot_feature_changes) + kvm_boot_signature_changed > bool 0
)
""",
        ),
        # Only a server that evaluates the rules on cohorts, too, knows this alert; elsewhere it ranks no machine.
        Recording(
            name=RARE_SINCE,
            expression=f"""
max by ({OF_MACHINE}) (
  kvm_fingerprint_info
  * on ({settings.of_fingerprint}) group_left ()
  max by ({settings.of_fingerprint}) (ALERTS_FOR_STATE{{alertname="KvmFingerprintRare"}})
)
""",
        ),
        Recording(
            name=NOT_SAMPLED,
            expression=f"""
up{{{settings.exporters}}}
unless on ({OF_MACHINE}) kvm_exporter_sample_success == 1
""",
        ),
        Recording(name=WEIGHT, expression=recorded()),
        Recording(name=COUNT, expression=f"count by (job, problem) ({WEIGHT})"),
        Recording(
            name=RANKED,
            expression=f"""
{WEIGHT}
and on ({OF_MACHINE})
topk({settings.ranked}, sum by ({OF_MACHINE}) ({WEIGHT}))
""",
        ),
    )
