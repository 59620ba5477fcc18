"""The CPUs of a guest: the features of each, and the CPUs that differ: rows of the dashboard *KVM guest*."""

from settings import MACHINE, OF_MACHINE, labels

from grafana.board import Row
from grafana.queries import SHOWN, each
from grafana.series import Lines
from grafana.tables import Column, Table
from kvm_exporter.kvm.features import Register

OF_CPU = labels(*MACHINE, "cpu", "leaf")


def majority(register: Register) -> str:
    """Return an expression: a register of the feature leaf on the majority of CPUs, as the sum of its offered bits."""
    bits = "\n  or ".join(
        f'kvm_feature_offered{{{SHOWN}, register="{register}", bit="{bit}"}} * {1 << bit}' for bit in range(32)
    )
    return f"sum by ({OF_MACHINE}) (\n  {bits}\n)"


def differing(register: Register) -> str:
    """Return an expression: the register of each CPU where it differs from the majority."""
    return f"""
max by ({OF_CPU}) (
  kvm_cpu_register{{{SHOWN}, register="{register}"}}
  != on ({OF_MACHINE}) group_left ()
  {majority(register)}
)
"""


def register_of_each(register: Register) -> str:
    """Return an expression: the register of each CPU."""
    return f'max by ({OF_CPU}) (kvm_cpu_register{{{SHOWN}, register="{register}"}})'


CPUS = Row(
    title="CPUs",
    height=12,
    panels=(
        Table(
            title="Registers by CPU",
            description="EAX and EDX of the feature leaf, read by a thread pinned to each CPU.",
            queries={"eax": register_of_each("eax"), "edx": register_of_each("edx")},
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="cpu", title="CPU", width=60),
                Column(field="leaf", title="Leaf"),
                Column(field="Value #eax", title="EAX", unit="hex0x"),
                Column(field="Value #edx", title="EDX", unit="hex0x"),
            ),
            sort=("Machine", "CPU"),
            numbers=("cpu",),
        ),
        Table(
            title="Registers of CPUs that differ",
            description=(
                "EAX and EDX of the CPUs where one of them differs from the majority. A CPU without the feature leaf "
                "counts as different, but has no registers and is not listed."
            ),
            queries={"eax": differing("eax"), "edx": differing("edx")},
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="cpu", title="CPU", width=60),
                Column(field="leaf", title="Leaf"),
                Column(field="Value #eax", title="EAX", unit="hex0x", absent="equal"),
                Column(field="Value #edx", title="EDX", unit="hex0x", absent="equal"),
            ),
            sort=("Machine", "CPU"),
            numbers=("cpu",),
        ),
        Table(
            title="Features offered to some CPUs only",
            description="The number of sampled and retained CPUs that are offered the feature, if not all or none.",
            queries={
                "some": f"""
max by ({OF_MACHINE}, feature, register, bit) (
  kvm_feature_offered_cpus{{{SHOWN}}} > 0
  < on ({OF_MACHINE}) group_left ()
  sum by ({OF_MACHINE}) (kvm_cpus{{{SHOWN}, state=~"sampled|retained"}})
)
"""
            },
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="feature", title="Feature"),
                Column(field="register", title="Register", width=75),
                Column(field="bit", title="Bit", width=50),
                Column(field="Value", title="CPUs", width=65),
            ),
            sort=("Machine", "Register", "Bit"),
            numbers=("bit",),
        ),
    ),
)

CPUS_OVER_TIME = Row(
    height=8,
    panels=(
        Lines(
            title="CPUs that differ over time",
            description="The number of sampled CPUs that differ from the majority.",
            queries={"divergent": each("kvm_cpus_divergent")},
            names="{{instance}}",
            unit="none",
        ),
        Lines(
            title="CPUs by state",
            description="Online CPUs by the result of the last sample: sampled, retained (isolated), skipped, failed.",
            queries={"cpus": each("kvm_cpus", "state")},
            names="{{instance}} {{state}}",
            unit="none",
        ),
    ),
)
