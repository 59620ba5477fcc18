"""The CPUs of a guest: what each is offered, and which are offered something else than most."""

from settings import MACHINE, OF_MACHINE, labels

from grafana.board import Row
from grafana.queries import SHOWN, each
from grafana.series import Lines
from grafana.tables import Column, Table
from kvm_exporter.kvm.features import Register

OF_CPU = labels(*MACHINE, "cpu", "leaf")


def as_most(register: Register) -> str:
    """A register of the feature leaf as most CPUs read it: the sum of its bits that are offered."""
    bits = "\n  or ".join(
        f'kvm_feature_offered{{{SHOWN}, register="{register}", bit="{bit}"}} * {1 << bit}' for bit in range(32)
    )
    return f"sum by ({OF_MACHINE}) (\n  {bits}\n)"


def unlike_most(register: Register) -> str:
    """The register of each CPU that reads something else than most."""
    return f"""
max by ({OF_CPU}) (
  kvm_cpu_register{{{SHOWN}, register="{register}"}}
  != on ({OF_MACHINE}) group_left ()
  {as_most(register)}
)
"""


def register_of_each(register: Register) -> str:
    """The register of each CPU."""
    return f'max by ({OF_CPU}) (kvm_cpu_register{{{SHOWN}, register="{register}"}})'


CPUS = Row(
    title="CPUs",
    height=12,
    panels=(
        Table(
            title="Registers of every CPU",
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
            title="Which CPUs differ",
            description=(
                "EAX or EDX of the CPUs where it is not as most CPUs read it. A CPU without the leaf has no register; "
                "it counts as one that differs all the same."
            ),
            queries={"eax": unlike_most("eax"), "edx": unlike_most("edx")},
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="cpu", title="CPU", width=60),
                Column(field="leaf", title="Leaf"),
                Column(field="Value #eax", title="EAX", unit="hex0x", absent="as most"),
                Column(field="Value #edx", title="EDX", unit="hex0x", absent="as most"),
            ),
            sort=("Machine", "CPU"),
            numbers=("cpu",),
        ),
        Table(
            title="Features that only some CPUs are offered",
            description="On how many of the sampled and retained CPUs, where it is not on all or on none of them.",
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
            description="Sampled CPUs that were offered something else than most.",
            queries={"divergent": each("kvm_cpus_divergent")},
            names="{{instance}}",
            unit="none",
        ),
        Lines(
            title="CPUs by state",
            description="What the last sample did with each online CPU: sampled, retained (isolated), skipped, failed.",
            queries={"cpus": each("kvm_cpus", "state")},
            names="{{instance}} {{state}}",
            unit="none",
        ),
    ),
)
