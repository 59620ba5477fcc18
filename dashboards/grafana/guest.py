"""The dashboard *KVM guest*: one machine, or a few beside each other, from current problems down to single CPUs."""

from settings import Settings

from grafana.board import GUEST_UID, Annotation, Board, of_machines
from grafana.changes import GAINED, LOST
from grafana.guest_cpus import CPUS
from grafana.guest_exporter import EXPORTER
from grafana.guest_features import BITS, OVER_TIME
from grafana.guest_identity import NOW, identity
from grafana.queries import SHOWN


def guest(settings: Settings) -> Board:
    """Return the dashboard."""
    return Board(
        uid=GUEST_UID,
        description=(
            "The features that the hypervisor offers to a KVM guest, on every CPU: use, expectations and drift."
        ),
        first=(*NOW, BITS),
        sections=(OVER_TIME, identity(settings), CPUS, EXPORTER),
        annotations=(
            LOST,
            GAINED,
            Annotation(
                "First sampled",
                f"kvm_boot_reference_timestamp_seconds{{{SHOWN}}} * 1000",
                "purple",
                "{{instance}} was first sampled after its boot",
                is_time=True,
            ),
        ),
        variables=of_machines(5),
    )
