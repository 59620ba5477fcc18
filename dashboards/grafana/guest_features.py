"""Every feature bit of a guest, now and over time: rows of the dashboard *KVM guest*."""

from settings import OF_BIT, OF_MACHINE

from grafana.board import Row
from grafana.queries import SHOWN, each, forbidden, missing, switched_off
from grafana.series import Timeline
from grafana.tables import Column, Table
from grafana.values import CHANGED, EXPECTED, OFFERED, SUPPORTED, USED, texts
from kvm_exporter.kvm.features import FEATURES, feature_at

OF_ROW = f"{OF_BIT}, feature"

UNASSIGNED = ("/^(eax|edx)_bit_[0-9]+$/", feature_at("eax", 31).meaning)
"""A pattern for the names of unassigned bits, and their meaning."""

MEANINGS = texts({bit.name: bit.meaning for bit in FEATURES}, otherwise=UNASSIGNED)

NAME = "{{instance}} {{register}} {{bit}} {{feature}}"


def with_meaning(expression: str) -> str:
    """Return the expression with a label ``meaning`` that copies ``feature``: the panel maps it to a description."""
    return f'label_join({expression}, "meaning", "", "feature")'


def of_bits(metric: str) -> str:
    """Return an expression: a metric for each bit of each machine."""
    return each(metric, "register", "bit", "feature")


FOUND = {
    "required, not offered": missing(SHOWN),
    "forbidden, but offered": forbidden(SHOWN),
    "offered, but switched off": switched_off(SHOWN),
    "lost since boot": f"kvm_boot_feature_changed{{{SHOWN}}} == -1",
    "gained since boot": f"kvm_boot_feature_changed{{{SHOWN}}} == 1",
}
"""The possible findings about a bit, each with the expression that finds it."""

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
"""An expression: -1 for lost bits, 1 for gained ones, 0 for unchanged ones; no result without a boot reference."""

BITS = Row(
    title="Features",
    height=19,
    panels=(
        Table(
            title="Bits",
            description=(
                "Every bit that is assigned or set: whether it is offered, the number of CPUs, whether the guest "
                "kernel has enabled it, the baseline's expectation, whether this machine's own KVM can offer it, and "
                "changes since the boot reference, the first sample of this boot."
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
                Column(field="Value #host", title="Own KVM", words=SUPPORTED, width=110),
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
            title="Findings",
            description="Features that are required but missing, forbidden but offered, switched off, lost, or gained.",
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
            description="Whether each bit was offered to the majority of CPUs.",
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
            description="Features that the guest kernel was offered: which of them it has enabled.",
            queries={"used": of_bits("kvm_feature_in_use")},
            names=NAME,
            values=USED,
        ),
        Timeline(
            title="Expected over time",
            description="Features that the baseline of the machine required and forbade.",
            queries={"expected": of_bits("kvm_feature_expected")},
            names=NAME,
            values=EXPECTED,
        ),
        Timeline(
            title="Supported by own KVM over time",
            description="Features that the machine's own KVM could offer to guests; needs access to /dev/kvm.",
            queries={"supported": of_bits("kvm_host_feature_supported")},
            names=NAME,
            values=SUPPORTED,
        ),
    ),
)
