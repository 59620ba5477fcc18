"""What Prometheus records of a fleet, and of each machine with a problem."""

import problems
from settings import Settings

from rules.rule import Recording


def recordings(settings: Settings) -> tuple[Recording, ...]:
    """Return the recording rules."""
    return (
        Recording(name="cohort:kvm_present:sum", expression=f"sum by ({settings.of_cohort}) (kvm_present)"),
        Recording(
            name="cohort:kvm_feature_offered:sum", expression=f"sum by ({settings.of_feature}) (kvm_feature_offered)"
        ),
        Recording(
            name="cohort:kvm_feature_offered:share",
            expression=f"""
cohort:kvm_feature_offered:sum
/ on ({settings.of_cohort}) group_left ()
(cohort:kvm_present:sum > 0)
""",
        ),
        Recording(
            name="cohort_fingerprint:kvm_fingerprint_info:count",
            expression=f"count by ({settings.of_fingerprint}) (kvm_fingerprint_info)",
        ),
        Recording(
            name="cohort:kvm_fingerprint_info:distinct",
            expression=f"count by ({settings.of_cohort}) (cohort_fingerprint:kvm_fingerprint_info:count)",
        ),
        Recording(
            name="cohort_fingerprint:kvm_fingerprint_info:share",
            expression=f"""
cohort_fingerprint:kvm_fingerprint_info:count
/ on ({settings.of_cohort}) group_left ()
sum by ({settings.of_cohort}) (cohort_fingerprint:kvm_fingerprint_info:count)
""",
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
        Recording(name=problems.WEIGHT, expression=problems.recorded()),
    )
