"""The dashboard *KVM guest*: one machine, or a few beside each other, from current problems down to single CPUs."""

from grafana.board import GUEST_UID, Annotation, Board
from grafana.guest_cpus import CPUS, CPUS_OVER_TIME
from grafana.guest_exporter import COST, SAMPLING, STATES, VERSION
from grafana.guest_features import BITS, FINDINGS, OVER_TIME
from grafana.guest_identity import IDENTITY, NOW, REFERENCE
from grafana.queries import SHOWN
from grafana.values import BAD, NEWS, ODD

GUEST = Board(
    uid=GUEST_UID,
    description="The features that the hypervisor offers to a KVM guest, on every CPU: use, expectations and drift.",
    rows=(NOW, IDENTITY, REFERENCE, BITS, FINDINGS, OVER_TIME, CPUS, CPUS_OVER_TIME, STATES, SAMPLING, COST, VERSION),
    annotations=(
        Annotation("Lost", f"kvm_boot_feature_changed{{{SHOWN}}} == bool -1", BAD, "{{instance}} lost {{feature}}"),
        Annotation("Gained", f"kvm_boot_feature_changed{{{SHOWN}}} == bool 1", NEWS, "{{instance}} gained {{feature}}"),
        Annotation(
            "Changed",
            f"increase(kvm_exporter_sample_changes_total{{{SHOWN}}}[$__rate_interval])",
            ODD,
            "{{instance}} sampled a change",
        ),
        Annotation(
            "First sampled",
            f"kvm_boot_reference_timestamp_seconds{{{SHOWN}}} * 1000",
            "purple",
            "{{instance}} was first sampled after its boot",
            is_time=True,
        ),
    ),
    most_machines=5,
)
