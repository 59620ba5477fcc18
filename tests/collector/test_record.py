"""kvm_exporter.collector.record: the rows and CPUs that a dump contains, and that it decodes to the same leaves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.collector.record import record, record_host
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.cpuid.dump import Dump, format_dump, parse_dump
from kvm_exporter.cpuid.registers import BASES, Reader, Registers
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.leaves import KVM_SIGNATURE
from lab.readers import (
    BARE_METAL,
    BASE,
    INTEL_HIGHEST_BASIC_LEAF,
    Machine,
    Rows,
    failing_reader,
    intel_reader,
    kvm_rows,
    leaf_1,
    reader,
    signature_leaf,
    strict_reader,
)

LEAF_0 = signature_leaf(b"GenuntelineI", 0x16)
HYPERV = signature_leaf(b"Microsoft Hv", BASE + 2)


def recorded(rows: Rows) -> dict[int, Registers]:
    """Return the recorded rows of one CPU by leaf; fails if a leaf above the highest is read."""
    dump, failed = record(Machine({0: strict_reader(rows)}))
    assert failed == {}
    assert {subleaf for _, subleaf in dump.cpus[0]} == {0}
    return {leaf: registers for (leaf, _), registers in dump.cpus[0].items()}


def test_of_bare_metal_only_two_leaves_are_recorded() -> None:
    """On bare metal leaf 0 and leaf 1 are recorded."""
    assert recorded(BARE_METAL | {0: LEAF_0}) == {0: LEAF_0, 1: BARE_METAL[1]}


def test_of_a_hidden_hypervisor_the_first_base_is_recorded() -> None:
    """Without a signature the first base is recorded, since a bug report may need what it contains."""
    dump, _ = record(Machine({0: intel_reader({0: LEAF_0, 1: leaf_1()})}))
    assert dump.cpus[0] == {(0, 0): LEAF_0, (1, 0): leaf_1(), (BASE, 0): INTEL_HIGHEST_BASIC_LEAF}


def test_every_leaf_of_a_base_with_a_signature_is_recorded_in_order() -> None:
    """Leaves up to the highest one of each signature are recorded in order; unused bases are not."""
    rows = {0: LEAF_0, BASE: HYPERV, BASE + 1: Registers(1, 2, 3, 4), BASE + 2: Registers(5, 6, 7, 8)}
    rows |= kvm_rows(0x01007EFB, 1, base=0x4000_0100)
    assert list(recorded(rows).items()) == sorted(rows.items())


@pytest.mark.parametrize(
    ("signature", "max_leaf", "leaves"),
    [
        (KVM_SIGNATURE, 0, [BASE, BASE + 1]),
        (KVM_SIGNATURE, 1, [BASE]),
        (KVM_SIGNATURE, BASE, [BASE]),
        (KVM_SIGNATURE, BASE + 0x10, list(range(BASE, BASE + 0x11))),
        (KVM_SIGNATURE, 0xFFFF_FFFF, list(range(BASE, BASE + 0x100))),
        (b"TCGTCGTCGTCG", 0, [BASE]),
        (b"VMwareVMware", BASE + 1, [BASE, BASE + 1]),
        (b"XenVMMXenVMM", BASE + 0x105, list(range(BASE, BASE + 0x100))),
    ],
)
def test_the_highest_leaf_bounds_what_is_recorded(signature: bytes, max_leaf: int, leaves: list[int]) -> None:
    """No leaf above the highest or beyond the base is recorded; 0 means base + 1 for KVM, the base alone for others."""
    rows = {0: LEAF_0, 1: leaf_1(), BASE: signature_leaf(signature, max_leaf)}
    assert list(recorded(rows)) == [0, 1, *leaves]


def test_cpus_that_cannot_be_read_are_told_of() -> None:
    """CPUs that cannot be read are returned with the reason; the others are recorded."""
    good = reader(kvm_rows(0x0100007B))
    dump, failed = record(Machine({0: good, 1: "outside the cpuset", 2: failing_reader("moved away"), 5: good}))
    assert sorted(dump.cpus) == [0, 5]
    assert dump.cpus[0] == dump.cpus[5]
    assert failed == {1: "outside the cpuset", 2: "moved away"}


def test_nothing_to_record_is_an_error() -> None:
    """If no CPU can be read, the error has the reason for each CPU."""
    with pytest.raises(ReadError) as caught:
        record(Machine({0: "outside the cpuset", 1: "held"}))
    assert str(caught.value) == "CPU 0: outside the cpuset; CPU 1: held"


SIGNATURES = st.sampled_from([KVM_SIGNATURE, b"Microsoft Hv", b"NobodyKnows!"])
MAX_LEAVES = st.one_of(st.just(0), st.integers(BASE - 1, BASE + 0x20), st.integers(0, 2**32 - 1))


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Strategy: one to three CPUs of AMD or Intel, up to three signatures among four bases, any features."""
    make = draw(st.sampled_from([reader, intel_reader]))
    words = st.integers(0, 2**32 - 1)

    def cpu() -> Reader:
        rows: dict[int, Registers] = {0: LEAF_0, 1: leaf_1(hypervisor_bit=draw(st.booleans()))}
        for base in draw(st.lists(st.sampled_from([*BASES[:3], BASES[-1]]), max_size=3, unique=True)):
            rows[base + 1] = Registers(draw(words), 0, 0, draw(words))
            rows[base + 0x10] = Registers(draw(words), draw(words), 0, 0)
            rows[base] = signature_leaf(draw(SIGNATURES), draw(MAX_LEAVES))
        return make(rows)

    return Machine({number: cpu() for number in range(draw(st.integers(1, 3)))})


@given(machines())
def test_a_recorded_machine_is_decoded_as_the_machine(machine: Machine) -> None:
    """A dump, also after formatting and parsing, decodes to the same leaves as the machine that was recorded."""
    dump, failed = record(machine)
    assert failed == {}
    seen = sweep(machine, CpuSelection(), None)
    for replayed in (dump, parse_dump(format_dump(dump).encode())):
        again = sweep(replayed, CpuSelection(), None)
        assert (again.anywhere, again.sampled) == (seen.anywhere, seen.sampled)


def test_a_dump_can_be_recorded_again() -> None:
    """Recording a dump returns the same dump."""
    first, _ = record(Machine({0: reader(kvm_rows(0x0100007B) | {0: LEAF_0})}))
    assert record(first) == (Dump(first.cpus), {})


@pytest.mark.parametrize("reported", [True, False], ids=["Linux 6.18", "older kernels"])
def test_a_host_is_recorded_as_a_machine_is(reported: bool) -> None:  # noqa: FBT001
    """It has leaves 0 and 1 and those of hypervisors, and the hypervisor bit whether KVM reports the bit or not."""
    rows = {(leaf, 0): words for leaf, words in {0: LEAF_0, **kvm_rows(0x0100_7EFB)}.items()}
    supported = {**rows, (1, 0): leaf_1(hypervisor_bit=reported), (0xD, 1): LEAF_0, (0x8000_0000, 0): LEAF_0}
    assert record_host(supported) == Dump({0: rows}, of_host=True)
