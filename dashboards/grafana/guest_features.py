"""Every feature bit of a guest, now and over time: rows of the dashboard *KVM guest*."""

from labels import OF_BIT
from problems import offered_to_some

from grafana.board import Row, Section
from grafana.queries import SHOWN, each, in_order, state_of_bits, switched_off
from grafana.series import Timeline
from grafana.tables import Column, Table
from grafana.values import EXPECTED_NOW, EXPECTED_OVER_TIME, OFFERED, OFFERED_NOW, SUPPORTED, USED, filled, texts
from kvm_exporter.kvm.features import FEATURES, feature_at

OF_ROW = f"{OF_BIT}, feature"

UNASSIGNED = ("/^(eax|edx)_bit_[0-9]+$/", feature_at("eax", 31).meaning)
"""A pattern for the names of unassigned bits, and their meaning."""

MEANINGS = texts({bit.name: bit.meaning for bit in FEATURES}, otherwise=UNASSIGNED)

NAME = "{{feature}} {{instance}}"


def with_meaning(expression: str) -> str:
    """Return the expression with a label ``meaning`` that copies ``feature``: the panel maps it to a description."""
    return f'label_join({expression}, "meaning", "", "feature")'


def of_bits(metric: str) -> str:
    """Return an expression: a metric for each bit of each machine."""
    return each(metric, "register", "bit", "feature")


STATE = f"max by ({OF_ROW}) (\n{state_of_bits(SHOWN)}\n)"
"""An expression: the state of each bit of each machine, by the words of OFFERED."""

NOW = f"""
max by ({OF_ROW}) (
  kvm_boot_feature_changed{{{SHOWN}}} == -1
  or on ({OF_BIT})
  clamp({offered_to_some(SHOWN)}, 3, 3)
  or on ({OF_BIT})
  {STATE}
)
""".strip()
"""An expression: the same, but 3 for bits that some CPUs are offered and others are not."""

USE = f"""
max by ({OF_ROW}) (
  2 * (kvm_unoffered_feature_in_use{{{SHOWN}}} == 1)
  or on ({OF_BIT})
  kvm_feature_in_use{{{SHOWN}}}
)
""".strip()
"""An expression: 2 for bits that are used and not offered, else 1 for those that are used and 0 for the others."""

AGAINST = f"""
max by ({OF_ROW}) (
  kvm_baseline_violation{{{SHOWN}}} == -1
  or on ({OF_BIT})
  2 * (kvm_baseline_violation{{{SHOWN}}} == 1)
  or on ({OF_BIT})
  kvm_feature_expected{{{SHOWN}}}
)
""".strip()
"""An expression: -1 and 2 for bits that violate the baseline, else 1 for required ones and 0 for forbidden ones."""

SWITCHED_OFF = f"max by ({OF_ROW}) ({switched_off(SHOWN)})"

BITS = Row(
    height=22,
    panels=(
        Table(
            title="Bits",
            description=(
                "Every bit that is assigned or set: whether it is offered, the number of CPUs, whether the guest "
                "kernel has enabled it, whether a boot switch disables it, the baseline's expectation, and whether "
                "this machine's own KVM can offer it. Lost and gained: since the first sample of this boot. Some: to "
                "some CPUs only. Missing: required and not offered; unwanted: forbidden and offered. Columns that no "
                "machine has are left out."
            ),
            queries={
                "offered": with_meaning(NOW),
                "cpus": with_meaning(of_bits("kvm_feature_offered_cpus")),
                "used": with_meaning(USE),
                "off": with_meaning(SWITCHED_OFF),
                "expected": with_meaning(AGAINST),
                "host": with_meaning(of_bits("kvm_host_feature_supported")),
            },
            columns=(
                Column(field="instance", title="Machine", width=455),
                Column(field="register", title="Register", width=80),
                Column(field="bit", title="Bit", width=50),
                Column(field="feature", title="Feature", width=175),
                Column(field="meaning", title="Meaning", mappings=MEANINGS),
                Column(field="Value #offered", title="Offered", words=OFFERED_NOW, width=75),
                Column(field="Value #cpus", title="CPUs", width=60),
                Column(field="Value #used", title="Used", words=USED, width=130),
                Column(
                    field="Value #off",
                    title="Switch",
                    words={"0": ("-", "text"), "1": ("off", "orange")},
                    absent="-",
                    width=70,
                ),
                Column(field="Value #expected", title="Expected", words=EXPECTED_NOW, absent="-", width=85),
                Column(field="Value #host", title="Own KVM", words=SUPPORTED, width=85),
            ),
            sort=("Machine", "Register", "Bit"),
            empty="No machine is selected that is on KVM, or Prometheus scrapes none.",
            numbers=("bit",),
        ),
    ),
)

OVER_TIME = Section(
    title="Features over time",
    rows=(
        Row(
            height=12,
            panels=(
                Timeline(
                    title="Offered over time",
                    description="Whether each bit was offered to the majority of CPUs, lost, or gained since boot.",
                    queries={"offered": in_order(STATE, "instance")},
                    names=NAME,
                    values=filled(OFFERED),
                    empty="unknown: no machine on KVM is scraped",
                ),
            ),
        ),
        Row(
            height=12,
            panels=(
                Timeline(
                    title="Used over time",
                    description="Features that the guest kernel was offered: which of them it has enabled.",
                    queries={"used": in_order(USE, "instance")},
                    names=NAME,
                    values=filled(USED),
                    empty="unknown: no evidence of the kernel",
                ),
            ),
        ),
        Row(
            height=9,
            panels=(
                Timeline(
                    title="Expected over time",
                    description="Features that the baseline of the machine required and forbade.",
                    queries={"expected": in_order(of_bits("kvm_feature_expected"), "instance")},
                    names=NAME,
                    values=EXPECTED_OVER_TIME,
                    empty="no baseline",
                ),
            ),
        ),
        Row(
            height=9,
            panels=(
                Timeline(
                    title="Supported by own KVM over time",
                    description="Features that the machine's own KVM could offer to guests; needs access to /dev/kvm.",
                    queries={"supported": in_order(of_bits("kvm_host_feature_supported"), "instance")},
                    names=NAME,
                    values=filled(SUPPORTED),
                    empty="no access to /dev/kvm",
                ),
            ),
        ),
    ),
)
