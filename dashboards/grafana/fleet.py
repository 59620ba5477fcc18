"""The dashboard *KVM fleet*: current problems, the machines that have them, and the history of the fleet.

To stay fast with many machines, queries over time use recorded series, queries of all machines are instant queries, and
panels of individual machines show those in ``$machine``.
"""

from grafana_foundation_sdk.models.dashboard import VariableModel
from settings import Settings

from grafana.board import FLEET_UID, Board, choice, of_machines
from grafana.changes import GAINED, LOST
from grafana.fleet_features import features
from grafana.fleet_hosts import SERVING, hosts
from grafana.fleet_machines import ALERTS, CHANGES, PROBLEMS, machines, now
from grafana.fleet_offers import fingerprints, history


def fingerprint() -> VariableModel:
    """Return the variable that selects fingerprints."""
    query = 'label_values(cohort_fingerprint:kvm_fingerprint_info:count{job=~"$job"}, fingerprint)'
    return choice("fingerprint", "The fingerprints whose machines are listed.", query)


def fleet(settings: Settings) -> Board:
    """Return the dashboard."""
    return Board(
        uid=FLEET_UID,
        description="The features that the hypervisors offer to a fleet of KVM guests, drift since boot, and outliers.",
        first=(PROBLEMS, now(settings), ALERTS, machines(settings), CHANGES),
        sections=(features(settings), fingerprints(settings), history(settings), hosts(settings), SERVING),
        annotations=(LOST, GAINED),
        variables=(*of_machines(50), fingerprint()),
    )
