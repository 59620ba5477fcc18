"""Decoding, comparing and recording on the real KVM: what a guest's own CPUID instruction reads, vCPU by vCPU."""

from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvm_exporter.collector.record import record
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.cpuid.dump import Dump, Rows, format_dump, parse_dump
from kvm_exporter.cpuid.registers import BASES, Registers, Source
from kvm_exporter.kvm.drift import Difference, TscChange, agree, difference, difference_of_samples
from kvm_exporter.kvm.features import Register, feature_at
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Kvm, Leaves, SignatureLeaf, Timing, fingerprint
from kvm_exporter.kvm.migration import Side, compare
from kvm_exporter.kvm.sample import Sample
from lab.tree import DUMPS
from tests.support.guests.guests import guest
from tests.support.guests.kvm import supported_cpuid
from tests.support.rooms.layouts import AMD, BARE_METAL, HIGHEST_BASIC_LEAF, INTEL, MAINLINE, kvm, signature
from tests.support.tools import kvm_device, program

BASE, NEXT_BASE, LAST_BASE = 0x4000_0000, 0x4000_0100, 0x4000_FF00
WORDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module", autouse=True)
def _requirements() -> None:
    kvm_device()
    program("gcc")


def look_at(cpus: Mapping[int, Rows], last: Sample | None = None) -> Sample:
    """A sample of a guest with such vCPUs."""
    with guest(cpus) as source:
        return sweep(source, CpuSelection(), last)


def told(source: Source) -> tuple[object, ...]:
    """All that decoding finds, with the highest leaves and the timing, which comparisons leave out."""
    sample = sweep(source, CpuSelection(), None)
    return astuple(sample.anywhere), {cpu: astuple(leaves) for cpu, leaves in sample.sampled.items()}


@pytest.mark.parametrize("path", DUMPS, ids=lambda path: path.stem)
def test_dump_decodes_as_in_a_guest(path: Path) -> None:
    """A guest with the leaves of a dump decodes to what the dump says, on each CPU."""
    dump = parse_dump(path.read_bytes())
    with guest(dump.cpus) as source:
        assert told(source) == told(dump)


@pytest.mark.parametrize("path", DUMPS, ids=lambda path: path.stem)
def test_hypervisor_leaves_come_back_as_they_were_set(path: Path) -> None:
    """KVM changes neither the hypervisor's leaves nor bit 31 of leaf 1, so the guests here are what they are to be."""
    dump = parse_dump(path.read_bytes())
    with guest(dump.cpus) as source:
        for cpu, rows in dump.cpus.items():
            read = source.on(cpu)
            asked = {place: words for place, words in rows.items() if BASES.start <= place[0] < BASES.stop}
            assert {place: read(*place) for place in asked} == asked
            # KVM keeps the other bits of leaf 1 true to the vCPU: OSXSAVE (ECX bit 27) follows its CR4.
            assert read(1, 0).ecx >> 31 == rows[1, 0].ecx >> 31


def test_every_base_is_found() -> None:
    """KVM is found at whichever of the 256 bases it is, and nowhere else."""
    for base in range(BASE, LAST_BASE + 1, 0x100):
        common = look_at({0: kvm(0x0100_007B, 1, base=base)}).common
        assert common.hypervisors == (SignatureLeaf(base, KVM_SIGNATURE, base + 1),)
        assert common.kvm == Kvm(base, 0x0100_007B, 1)


@settings(max_examples=100)
@given(eax=WORDS, edx=WORDS)
@example(eax=0, edx=0)
@example(eax=2**32 - 1, edx=2**32 - 1)
@example(eax=1 << 31, edx=1 << 31)
def test_words_are_decoded_to_their_bits(eax: int, edx: int) -> None:
    """Whatever the feature leaf's EAX and EDX are, the features offered are the bits that are set, and no others."""
    sample = look_at({0: kvm(eax, edx)})
    offered = {(feature.register, feature.bit) for feature in sample.features if sample.offering(feature)}
    words = {"eax": eax, "edx": edx}
    assert offered == {(register, bit) for register, word in words.items() for bit in range(32) if word >> bit & 1}


@settings(max_examples=50)
@given(eax=WORDS, edx=WORDS, register=st.sampled_from(("eax", "edx")), bit=st.integers(0, 31), odd=st.integers(0, 2))
def test_one_bit_on_one_vcpu_is_named(eax: int, edx: int, register: Register, bit: int, odd: int) -> None:
    """Of three vCPUs, the one that differs in one bit is the one that diverges, by that bit."""
    usual, feature = Kvm(BASE, eax, edx), feature_at(register, bit)
    other = kvm(eax ^ feature.mask, edx) if register == "eax" else kvm(eax, edx ^ feature.mask)
    sample = look_at({cpu: other if cpu == odd else kvm(eax, edx) for cpu in range(3)})
    lacks = usual.offers(feature)
    assert sample.common.kvm == usual
    assert sample.divergent == (odd,)
    assert sample.offering(feature) == (2 if lacks else 1)
    expected = Difference(lost=(feature,)) if lacks else Difference(gained=(feature,))
    assert difference(sample.common, sample.sampled[odd]) == expected


@pytest.mark.parametrize("odd", [0, 1, 2])
@pytest.mark.parametrize("hidden", [INTEL, BARE_METAL], ids=["no signature", "no hypervisor bit"])
def test_kvm_hidden_on_one_vcpu(hidden: Rows, odd: int) -> None:
    """A vCPU that shows no KVM diverges, even if it is the one that was scanned, and whatever its feature leaf is."""
    with guest({cpu: hidden if cpu == odd else kvm() for cpu in range(3)}) as source:
        assert source.on(odd)(BASE + 1, 0) == HIGHEST_BASIC_LEAF
        sample = sweep(source, CpuSelection(), None)
    assert sample.common.kvm == Kvm(BASE, MAINLINE, 0)
    assert sample.divergent == (odd,)
    assert sample.sampled[odd] == Leaves(hypervisor_bit=hidden is INTEL)


@pytest.mark.parametrize("odd", [0, 1, 2])
def test_kvm_at_another_base_on_one_vcpu(odd: int) -> None:
    """Every vCPU is read at its own bases, whichever of them was scanned first."""
    with guest({cpu: kvm(base=0x4000_0300) if cpu == odd else kvm() for cpu in range(3)}) as source:
        sample = sweep(source, CpuSelection(), None)
    assert sample.common.kvm == Kvm(BASE, MAINLINE, 0)
    assert sample.divergent == (odd,)
    assert sample.sampled[odd].kvm == Kvm(0x4000_0300, MAINLINE, 0)


@pytest.mark.parametrize("rows", [INTEL, AMD, BARE_METAL], ids=["Intel", "AMD", "no hypervisor bit"])
def test_kvm_hidden_everywhere(rows: Rows) -> None:
    """Without KVM's signature nothing is offered, and the vCPUs agree on it."""
    sample = look_at({0: rows, 1: rows})
    assert sample.common == Leaves(hypervisor_bit=rows is not BARE_METAL)
    assert sample.divergent == ()
    assert sample.features == ()


def test_leaves_without_the_hypervisor_bit_mean_nothing() -> None:
    """KVM's leaves that still answer where leaf 1 tells of no hypervisor are not believed."""
    assert look_at({0: {**kvm(), **BARE_METAL}}).common == Leaves(hypervisor_bit=False)


@pytest.mark.parametrize(("highest", "expected"), [(BASE + 0xF, None), (BASE + 0x10, Timing(2_599_997, 1_000_000))])
def test_timing_is_read_if_the_highest_leaf_allows(highest: int, expected: Timing | None) -> None:
    """The frequencies come from leaf base + 0x10 alone, and only if there is one."""
    timing = {(BASE + 0x10, 0): Registers(2_599_997, 1_000_000, 0, 0)}
    found = look_at({0: {**kvm(), **signature(BASE, highest), **timing}}).common.kvm
    assert found is not None
    assert found.timing == expected


def test_highest_leaf_zero_means_the_feature_leaf() -> None:
    """An old KVM, whose highest leaf is 0, is read up to base + 1."""
    found = look_at({0: {**kvm(0x0100_000B), **signature(BASE, highest=0)}}).common.kvm
    assert found == Kvm(BASE, 0x0100_000B, 0)
    assert found.has_leaf
    assert found.timing is None


@pytest.mark.parametrize("highest", [1, BASE])
def test_highest_leaf_below_the_feature_leaf(highest: int) -> None:
    """KVM whose highest leaf is below base + 1 offers nothing: what could be read there is another leaf."""
    with guest({0: {**INTEL, **signature(BASE, highest)}}) as source:
        assert source.anywhere(BASE + 1, 0) == HIGHEST_BASIC_LEAF
        found = sweep(source, CpuSelection(), None).common.kvm
    assert found == Kvm(BASE, 0, 0)
    assert not found.has_leaf


def test_kvm_behind_hyperv() -> None:
    """Beside Hyper-V, KVM is found at the next base, on a vCPU that alone is like that as well."""
    behind = {**kvm(base=NEXT_BASE), **signature(BASE, BASE + 5, b"Microsoft Hv")}
    every = look_at({0: behind, 1: behind})
    assert [found.signature for found in every.common.hypervisors] == [b"Microsoft Hv", KVM_SIGNATURE]
    assert every.common.kvm == Kvm(NEXT_BASE, MAINLINE, 0)
    one = look_at({0: kvm(), 1: kvm(), 5: behind})
    assert one.divergent == (5,)
    assert one.sampled[5] == every.common


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(kvm(), "a56f971aee6ec7ef"), (kvm(0x0100_007B, 1, base=NEXT_BASE), "671fa1834330d3c4")],
    ids=["KVM alone", "KVM at the next base"],
)
def test_fingerprint(rows: Rows, expected: str) -> None:
    """A guest's fingerprint is the one that is documented for its leaves."""
    found = look_at({0: rows}).common.kvm
    assert found is not None
    assert fingerprint(found) == expected


@pytest.mark.parametrize(
    "after",
    [kvm(MAINLINE ^ 1 << 7), kvm(edx=1), kvm(base=NEXT_BASE), INTEL, BARE_METAL],
    ids=["bit lost", "hint gained", "base moved", "signature hidden", "no hypervisor bit"],
)
def test_guest_that_goes_to_another_host(after: Rows) -> None:
    """The samples before and after disagree where the other host offers something else, and agree where it does not."""
    before = look_at({0: kvm(), 1: kvm()})
    moved = look_at({0: after, 1: after}, before)
    assert agree(before, look_at({0: kvm(), 1: kvm()}, before))
    assert not agree(before, moved)
    assert moved.divergent == ()


@st.composite
def machines(draw: st.DrawFn) -> dict[int, Rows]:
    """Up to three vCPUs that may differ in all that is decoded, with leaves as KVM or a careless program sets them."""
    bases = draw(st.sets(st.sampled_from((BASE, NEXT_BASE, LAST_BASE)), min_size=1, max_size=2))
    cpus: dict[int, Rows] = {}
    for cpu in draw(st.sets(st.integers(0, 7), min_size=1, max_size=3)):
        rows = dict(draw(st.sampled_from((INTEL, AMD, BARE_METAL))))
        for base in bases:
            highest = draw(st.sampled_from((0, 1, base, base + 1, base + 0xF, base + 0x10, base + 0xFF, 2**32 - 1)))
            name = draw(st.sampled_from((KVM_SIGNATURE, KVM_SIGNATURE, b"Microsoft Hv", b"a new one\0\0\0")))
            rows |= signature(base, highest, name)
            rows |= {(leaf, 0): Registers(*draw(st.tuples(*[WORDS] * 4))) for leaf in (base + 1, base + 0x10)}
        cpus[cpu] = rows
    return cpus


@settings(max_examples=50)
@given(cpus=machines())
def test_guests_and_dumps_tell_the_same(cpus: dict[int, Rows]) -> None:
    """A guest, the dump that it was made from, and the dump that is recorded in it decode to the same."""
    with guest(cpus) as source:
        expected = told(source)
        recorded, failed = record(source)
    assert failed == {}
    assert parse_dump(format_dump(recorded).encode()) == recorded
    assert told(Dump(cpus)) == expected
    assert told(recorded) == expected


def test_guest_with_all_that_this_host_supports() -> None:
    """A guest that is given all leaves that KVM says it supports is offered the features of their feature leaf."""
    rows = supported_cpuid()
    supported = rows[BASE + 1, 0]
    assert supported.eax
    assert look_at({0: rows}).common.kvm == Kvm(BASE, supported.eax, supported.edx)


def timed(tsc_khz: int | None) -> dict[int, Rows]:
    """Return a guest with two vCPUs and a timing leaf; None: without that leaf."""
    if tsc_khz is None:
        return {0: kvm(), 1: kvm()}
    leaves = {**kvm(), **signature(BASE, BASE + 0x10), (BASE + 0x10, 0): Registers(tsc_khz, 1_000_000, 0, 0)}
    return {0: leaves, 1: leaves}


@pytest.mark.parametrize(
    ("after", "tsc", "compatible"),
    [
        (2_600_000, None, True),
        (3_100_000, TscChange(2_599_997, 3_100_000), False),
        (None, TscChange(2_599_997, None), True),
    ],
    ids=["the same to 2 ppm", "faster", "no timing leaf"],
)
def test_the_tsc_frequency_of_a_real_guest_is_compared(
    after: int | None, tsc: TscChange | None, *, compatible: bool
) -> None:
    """What the instruction reads of leaf base + 0x10 in two guests is compared, and decides whether one may move."""
    here, there = look_at(timed(2_599_997)), look_at(timed(after))
    assert difference_of_samples(here, there).tsc == tsc
    assert compare(Side(here), Side(there)).compatible == compatible
