"""The dashboard *KVM fleet*: current problems, the machines that have them, and the history of the fleet.

To stay fast with many machines, queries over time use recorded series, queries of all machines are instant queries, and
panels of individual machines show those in ``$machine``.
"""

from grafana_foundation_sdk.models.dashboard import VariableModel

from grafana.board import FLEET_UID, Annotation, Board, choice
from grafana.fleet_features import FEATURES, MATRIX
from grafana.fleet_machines import CHANGES, MACHINES, NOW
from grafana.fleet_offers import FINGERPRINTS, HISTORY
from grafana.queries import COHORT_NAME, JOBS
from grafana.values import BAD, NEWS


def fingerprint() -> VariableModel:
    """Return the variable that selects fingerprints."""
    query = 'label_values(cohort_fingerprint:kvm_fingerprint_info:count{job=~"$job"}, fingerprint)'
    return choice("fingerprint", "The fingerprints whose machines are listed.", query)


FLEET = Board(
    uid=FLEET_UID,
    description="The features that the hypervisors offer to a fleet of KVM guests, drift since boot, and outliers.",
    rows=(NOW, MACHINES, CHANGES, FEATURES, MATRIX, FINGERPRINTS, HISTORY),
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
