"""Every bit of a guest: what it means, whether it is offered, used, expected and possible, now and over time."""

from settings import OF_BIT, OF_MACHINE

from grafana.board import Row
from grafana.queries import SHOWN, each, forbidden, missing, switched_off
from grafana.series import Timeline
from grafana.tables import Column, Table
from grafana.values import CHANGED, EXPECTED, OFFERED, SUPPORTED, USED, texts
from kvm_exporter.kvm.features import FEATURES, feature_at

OF_ROW = f"{OF_BIT}, feature"

UNASSIGNED = ("/^(eax|edx)_bit_[0-9]+$/", feature_at("eax", 31).meaning)
"""Names of bits that have none, and what they mean."""

MEANINGS = texts({bit.name: bit.meaning for bit in FEATURES}, otherwise=UNASSIGNED)

NAME = "{{instance}} {{register}} {{bit}} {{feature}}"


def with_meaning(expression: str) -> str:
    """The name of each feature a second time, as ``meaning``: the panel shows what it means there."""
    return f'label_join({expression}, "meaning", "", "feature")'


def of_bits(metric: str) -> str:
    """The value of a metric for each bit of each machine."""
    return each(metric, "register", "bit", "feature")


FOUND = {
    "required, not offered": missing(SHOWN),
    "forbidden, and offered": forbidden(SHOWN),
    "offered, and switched off": switched_off(SHOWN),
    "lost since boot": f"kvm_boot_feature_changed{{{SHOWN}}} == -1",
    "gained since boot": f"kvm_boot_feature_changed{{{SHOWN}}} == 1",
}
"""What may be wrong with a bit, and where it is."""

FINDING = "\nor\n".join(
    f'label_replace({expression}, "finding", "{words}", "", "")' for words, expression in FOUND.items()
)

CHANGE = f"""
max by ({OF_ROW}) (
  kvm_boot_feature_changed{{{SHOWN}}}
  or on ({OF_BIT})
  0 * kvm_feature_offered{{{SHOWN}}} and on ({OF_MACHINE}) kvm_boot_reference_timestamp_seconds{{{SHOWN}}}
)
""".strip()
"""What was lost and gained, and 0 for what is as it was, where it is known what was."""

BITS = Row(
    title="Features",
    height=19,
    panels=(
        Table(
            title="Bits",
            description=(
                "Every bit that has a meaning or is set: offered by CPUID, on how many CPUs, used by the guest kernel, "
                "expected by the baseline, possible on this machine's own KVM, and changed since boot."
            ),
            queries={
                "offered": with_meaning(of_bits("kvm_feature_offered")),
                "cpus": with_meaning(of_bits("kvm_feature_offered_cpus")),
                "used": with_meaning(of_bits("kvm_feature_in_use")),
                "expected": with_meaning(of_bits("kvm_feature_expected")),
                "host": with_meaning(of_bits("kvm_host_feature_supported")),
                "changed": with_meaning(CHANGE),
            },
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="register", title="Register", width=75),
                Column(field="bit", title="Bit", width=50),
                Column(field="feature", title="Feature", width=190),
                Column(field="meaning", title="Meaning", mappings=MEANINGS, width=360),
                Column(field="Value #offered", title="Offered", words=OFFERED, width=80),
                Column(field="Value #cpus", title="CPUs", width=65),
                Column(field="Value #used", title="Used", words=USED, width=110),
                Column(field="Value #expected", title="Expected", words=EXPECTED, absent="-", width=100),
                Column(field="Value #host", title="Own KVM can", words=SUPPORTED, width=110),
                Column(field="Value #changed", title="Since boot", words=CHANGED, width=100),
            ),
            sort=("Machine", "Register", "Bit"),
            numbers=("bit",),
        ),
    ),
)

FINDINGS = Row(
    height=14,
    panels=(
        Table(
            title="Not as it should be",
            description="Features that are required and missing, forbidden and offered, switched off, lost or gained.",
            queries={"findings": f"max by ({OF_ROW}, finding) (\n{FINDING}\n)"},
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="feature", title="Feature"),
                Column(field="register", title="Register", width=75),
                Column(field="bit", title="Bit", width=50),
                Column(field="finding", title="Finding"),
            ),
            sort=("Machine", "Register", "Bit"),
            numbers=("bit",),
            width=10,
        ),
        Timeline(
            title="Offered over time",
            description="Whether each bit was offered, as most CPUs read it.",
            queries={"offered": of_bits("kvm_feature_offered")},
            names=NAME,
            values=OFFERED,
            width=14,
        ),
    ),
)

OVER_TIME = Row(
    height=10,
    panels=(
        Timeline(
            title="Used over time",
            description="What the guest kernel showed that it had enabled, and what a boot switch forbade it.",
            queries={"used": of_bits("kvm_feature_in_use")},
            names=NAME,
            values=USED,
        ),
        Timeline(
            title="Expected over time",
            description="What the baseline on the machine required and forbade.",
            queries={"expected": of_bits("kvm_feature_expected")},
            names=NAME,
            values=EXPECTED,
        ),
        Timeline(
            title="As a host: what its own KVM can offer",
            description="What the machine's own KVM could offer its guests, on machines that have /dev/kvm.",
            queries={"supported": of_bits("kvm_host_feature_supported")},
            names=NAME,
            values=SUPPORTED,
        ),
    ),
)
