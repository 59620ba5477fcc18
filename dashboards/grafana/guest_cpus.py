"""The CPUs of a guest: the features of each, and the CPUs that differ: a section of the dashboard *KVM guest*."""

from labels import MACHINE, OF_MACHINE, labels
from problems import offered_to_some

from grafana.board import Row, Section
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
kvm_cpu_register{{{SHOWN}, register="{register}"}}
!= on ({OF_MACHINE}) group_left ()
{majority(register)}
""".strip()


def register_of_each(register: Register, restriction: str = "") -> str:
    """Return an expression: the register of each CPU."""
    return f'max by ({OF_CPU}) (kvm_cpu_register{{{SHOWN}, register="{register}"}}{restriction})'


DIFFERING = f"\nand on ({OF_CPU}) (\n{differing('eax')}\nor on ({OF_CPU})\n{differing('edx')}\n)"

REGISTERS = (
    Column(field="instance", title="Machine"),
    Column(field="cpu", title="CPU", width=60),
    Column(field="leaf", title="Leaf", width=110),
    Column(field="Value #eax", title="EAX", unit="hex0x", width=110),
    Column(field="Value #edx", title="EDX", unit="hex0x", width=110),
)

CPUS = Section(
    title="CPUs",
    rows=(
        Row(
            height=8,
            panels=(
                Table(
                    title="Registers of CPUs that differ",
                    description=(
                        "EAX and EDX of the CPUs where one of them differs from the majority. A CPU without the "
                        "feature leaf counts as different, but has no registers and is not listed."
                    ),
                    queries={
                        "eax": register_of_each("eax", DIFFERING),
                        "edx": register_of_each("edx", DIFFERING),
                    },
                    columns=REGISTERS,
                    sort=("Machine", "CPU"),
                    empty="No CPU that was sampled has registers that differ from the majority.",
                    numbers=("cpu",),
                ),
            ),
        ),
        Row(
            height=8,
            panels=(
                Table(
                    title="Features offered to some CPUs only",
                    description=(
                        "The number of sampled and retained CPUs that are offered the feature, if not all or none."
                    ),
                    queries={"some": f"max by ({OF_MACHINE}, feature, register, bit) (\n{offered_to_some(SHOWN)}\n)"},
                    columns=(
                        Column(field="instance", title="Machine"),
                        Column(field="feature", title="Feature", width=175),
                        Column(field="register", title="Register", width=80),
                        Column(field="bit", title="Bit", width=50),
                        Column(field="Value", title="CPUs", width=65),
                    ),
                    sort=("Machine", "Register", "Bit"),
                    empty="Every feature is offered to all sampled CPUs of a machine, or to none.",
                    numbers=("bit",),
                ),
            ),
        ),
        Row(
            height=12,
            panels=(
                Table(
                    title="Registers by CPU",
                    description="EAX and EDX of the feature leaf, read by a thread pinned to each CPU.",
                    queries={"eax": register_of_each("eax"), "edx": register_of_each("edx")},
                    columns=REGISTERS,
                    sort=("Machine", "CPU"),
                    empty="No CPU was sampled on KVM.",
                    numbers=("cpu",),
                ),
            ),
        ),
        Row(
            height=8,
            panels=(
                Lines(
                    title="CPUs that differ over time",
                    description="The number of sampled CPUs that differ from the majority.",
                    queries={"divergent": each("kvm_cpus_divergent")},
                    names="{{instance}}",
                    unit="none",
                    counts=True,
                ),
                Lines(
                    title="CPUs by state",
                    description=(
                        "Online CPUs of all machines that are shown, by the result of the last sample: sampled, "
                        "retained (isolated), skipped, failed."
                    ),
                    queries={"cpus": f"sum by (state) (kvm_cpus{{{SHOWN}}})"},
                    names="{{state}}",
                    unit="none",
                    counts=True,
                ),
            ),
        ),
    ),
)
