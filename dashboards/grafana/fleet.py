"""The dashboard *KVM fleet*: what is wrong now, with which machines, and how the fleet came to be what it is.

What is asked over time reads recorded series; what is asked of all machines is asked for one instant; what shows single
machines shows the few in ``$machine``.
"""

from grafana_foundation_sdk.models.dashboard import VariableModel

from grafana.board import FLEET_UID, Annotation, Board, choice
from grafana.fleet_features import FEATURES, MATRIX
from grafana.fleet_machines import CHANGES, NOW, WHO
from grafana.fleet_offers import FINGERPRINTS, HISTORY
from grafana.queries import COHORT_NAME, JOBS
from grafana.values import BAD, NEWS


def fingerprint() -> VariableModel:
    """Which fingerprints to show the machines of."""
    query = 'label_values(cohort_fingerprint:kvm_fingerprint_info:count{job=~"$job"}, fingerprint)'
    return choice("fingerprint", "The fingerprints whose machines are listed.", query)


FLEET = Board(
    uid=FLEET_UID,
    description="What the hypervisors offer a fleet of KVM guests, where it drifted, and who is the odd one.",
    rows=(NOW, WHO, CHANGES, FEATURES, MATRIX, FINGERPRINTS, HISTORY),
    annotations=(
        Annotation(
            "Lost",
            f"cohort:kvm_boot_feature_changed:lost{{{JOBS}}}",
            BAD,
            f"machines of {COHORT_NAME} lost {{{{feature}}}}",
        ),
        Annotation(
            "Gained",
            f"cohort:kvm_boot_feature_changed:gained{{{JOBS}}}",
            NEWS,
            f"machines of {COHORT_NAME} gained {{{{feature}}}}",
        ),
    ),
    most_machines=50,
    variables=(fingerprint(),),
)
