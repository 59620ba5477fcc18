"""kvm_exporter.kvm.drift: what changed between two feature sets, and on which CPUs."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.cpuid.registers import BASES
from kvm_exporter.kvm.clock import PvClock
from kvm_exporter.kvm.drift import Difference, TscChange, agree, changes, difference, difference_of_samples
from kvm_exporter.kvm.features import Feature, feature_at, feature_named
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Kvm, Leaves, SignatureLeaf, Timing
from kvm_exporter.kvm.sample import Sample
from lab.readers import guest, kvm_of, sample_of

ALL = guest(0x01007EFB)
DEFAULT = guest(0x0100007B)
NOTHING = guest(0)
MOVED = guest(0x01007EFB, base=0x4000_0100)
NO_SIGNATURE = Leaves(hypervisor_bit=True)
BARE_METAL = Leaves(hypervisor_bit=False)

HYPER_V = SignatureLeaf(0x4000_0000, b"Microsoft Hv", 0x4000_0005)
BESIDE_HYPER_V = Leaves(
    hypervisor_bit=True, hypervisors=(HYPER_V, *MOVED.hypervisors), kvm=Kvm(0x4000_0100, 0x01007EFB, 0)
)

WORDS = st.integers(0, 2**32 - 1)
OFFERS = st.builds(guest, WORDS, WORDS)
ANYTHING = st.one_of(
    st.builds(guest, WORDS, WORDS, base=st.sampled_from(BASES)),
    st.sampled_from([NO_SIGNATURE, BARE_METAL, BESIDE_HYPER_V]),
)


def features(*names: str) -> tuple[Feature, ...]:
    """Return features by their names."""
    return tuple(feature_named(name) for name in names)


#: The features that mainline KVM can offer beyond QEMU's default.
BEYOND_DEFAULT = features(
    *("pv_unhalt", "pv_tlb_flush", "async_pf_vmexit", "pv_send_ipi"),
    *("poll_control", "pv_sched_yield", "async_pf_int"),
)
EVERYTHING = features(
    *("clocksource", "nop_io_delay", "clocksource2", "async_pf", "steal_time", "pv_eoi", "pv_unhalt", "pv_tlb_flush"),
    *("async_pf_vmexit", "pv_send_ipi", "poll_control", "pv_sched_yield", "async_pf_int", "clocksource_stable_bit"),
)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (ALL, ALL, Difference()),
        (ALL, DEFAULT, Difference(lost=BEYOND_DEFAULT)),
        (DEFAULT, ALL, Difference(gained=BEYOND_DEFAULT)),
        (guest(0x20), guest(0x08), Difference(features("steal_time"), features("clocksource2"))),
        (guest(0, 0), guest(0, 1), Difference(gained=features("hints_realtime"))),
        (guest(0, 1), guest(0, 0), Difference(lost=features("hints_realtime"))),
        (
            guest(0xC000_0000, 0x20),
            NOTHING,
            Difference(lost=features("eax_bit_30", "eax_bit_31", "edx_bit_5")),
        ),
        (ALL, MOVED, Difference(identity=True)),
        (MOVED, BESIDE_HYPER_V, Difference(identity=True)),
        (ALL, NO_SIGNATURE, Difference(lost=EVERYTHING, identity=True)),
        (NO_SIGNATURE, ALL, Difference(gained=EVERYTHING, identity=True)),
        (NO_SIGNATURE, BARE_METAL, Difference(identity=True)),
        (BARE_METAL, NOTHING, Difference(identity=True)),
    ],
    ids=[
        *("same", "lost", "gained", "both", "hint gained", "hint lost", "unassigned lost", "moved", "Hyper-V came"),
        *("vanished", "appeared", "no hypervisor any more", "appeared without a feature"),
    ],
)
def test_difference(before: Leaves, after: Leaves, expected: Difference) -> None:
    """A difference lists features by register and bit, and says whether signature or base differ."""
    found = difference(before, after)
    assert found == expected
    assert bool(found) == (expected != Difference())


@given(OFFERS, OFFERS)
def test_lost_and_gained_are_exactly_the_bits_that_differ(before: Leaves, after: Leaves) -> None:
    """Each bit that differs, assigned or not, is in exactly one of the two tuples, in ascending order."""
    found = difference(before, after)
    old, new = kvm_of(before), kvm_of(after)
    bits = [feature_at("eax", bit) for bit in range(32)] + [feature_at("edx", bit) for bit in range(32)]
    assert found.lost == tuple(bit for bit in bits if old.offers(bit) and not new.offers(bit))
    assert found.gained == tuple(bit for bit in bits if new.offers(bit) and not old.offers(bit))
    assert not found.identity


@given(ANYTHING, ANYTHING)
def test_the_way_back_is_the_other_way_round(before: Leaves, after: Leaves) -> None:
    """Reversing a comparison swaps lost and gained, and keeps identity and timing."""
    there, back = difference(before, after), difference(after, before)
    assert (there.lost, there.gained) == (back.gained, back.lost)
    assert there.identity == back.identity
    assert (there.tsc is None) == (back.tsc is None)


@given(ANYTHING, ANYTHING)
def test_leaves_differ_where_they_are_not_equal(before: Leaves, after: Leaves) -> None:
    """Leaves have a difference exactly if they are unequal, so that a comparison by equality and the log agree."""
    assert bool(difference(before, after)) == (before != after)


def with_timing(timing: Timing | None) -> Leaves:
    """Return leaves of KVM with all features and this timing leaf."""
    return replace(ALL, kvm=replace(kvm_of(ALL), timing=timing))


@pytest.mark.parametrize(
    ("before", "after", "tsc", "changed"),
    [
        (None, None, None, False),
        (Timing(2_600_000, 1_000_000), Timing(2_600_000, 1_000_000), None, False),
        (Timing(2_600_000, 1_000_000), Timing(2_600_000, 200_000), None, False),
        (Timing(2_600_000, 1_000_000), Timing(2_599_350, 1_000_000), None, False),
        (Timing(2_600_000, 1_000_000), Timing(2_599_349, 1_000_000), TscChange(2_600_000, 2_599_349), True),
        (Timing(2_600_000, 1_000_000), Timing(3_100_000, 1_000_000), TscChange(2_600_000, 3_100_000), True),
        (Timing(2_600_000, 1_000_000), None, TscChange(2_600_000, None), False),
        (Timing(2_600_000, 1_000_000), Timing(0, 0), TscChange(2_600_000, None), False),
        (None, Timing(2_600_000, 1_000_000), TscChange(None, 2_600_000), False),
    ],
)
def test_another_tsc_frequency_is_a_difference(
    before: Timing | None, after: Timing | None, tsc: TscChange | None, *, changed: bool
) -> None:
    """More than 250 ppm is a change; a frequency that one side does not report is a difference."""
    found = difference_of_samples(sample_of({0: with_timing(before)}), sample_of({0: with_timing(after)}))
    assert found == Difference(tsc=tsc)
    assert (bool(found), found.tsc_changed) == (tsc is not None, changed)
    assert not difference(with_timing(before), with_timing(after))


@pytest.mark.parametrize(
    ("before", "after", "tsc"),
    [
        (PvClock(stable=True, tsc_khz=2_600_000), PvClock(stable=False, tsc_khz=2_599_350), None),
        (PvClock(stable=True, tsc_khz=2_600_000), PvClock(stable=True, tsc_khz=2_599_349), (2_600_000, 2_599_349)),
        (PvClock(stable=True, tsc_khz=3_100_000), PvClock(stable=True, tsc_khz=2_600_000), (3_100_000, 2_600_000)),
        (PvClock(stable=True, tsc_khz=3_100_000), None, (3_100_000, 2_000_000)),
        (None, PvClock(stable=True, tsc_khz=2_000_000), None),
    ],
)
def test_the_clock_page_has_the_frequency(
    before: PvClock | None, after: PvClock | None, tsc: tuple[int, int] | None
) -> None:
    """The page's frequency goes before the leaf's, to the same tolerance; a change is no CPU's, but the machine's."""
    leaves = with_timing(Timing(2_000_000, 1_000_000))
    earlier, later = (sample_of({0: leaves, 1: leaves}, clock=clock) for clock in (before, after))
    expected = {Difference(tsc=TscChange(*tsc)): ()} if tsc is not None else {}
    assert changes(earlier, later) == expected
    assert agree(earlier, later) == (tsc is None)


def test_without_kvm_there_is_no_frequency_to_compare() -> None:
    """Where KVM's leaves have vanished, that is the difference, and no frequency is compared."""
    clock = PvClock(stable=True, tsc_khz=2_600_000)
    found = difference_of_samples(sample_of({0: ALL}, clock=clock), sample_of({0: NO_SIGNATURE}))
    assert (found.identity, found.tsc) == (True, None)


def test_the_highest_leaf_is_no_change() -> None:
    """Another highest leaf is no difference: it can rise while the feature set stays the same."""
    assert difference(guest(1), guest(1, max_leaf=0x4000_000F)) == Difference()
    assert difference(guest(1), guest(1, max_leaf=0)) == Difference()


def test_another_signature_at_the_same_base_is_another_identity() -> None:
    """Another signature is a change of identity, because the bits may mean something else under it."""
    other = Leaves(hypervisor_bit=True, hypervisors=(SignatureLeaf(0x4000_0000, b"TCGTCGTCGTCG", 0x4000_0001),))
    assert NOTHING.hypervisors[0].signature == KVM_SIGNATURE
    assert difference(NOTHING, other) == Difference(identity=True)


LOST = difference(ALL, DEFAULT)
GAINED = difference(DEFAULT, ALL)
GONE = difference(ALL, NO_SIGNATURE)


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        (sample_of({0: ALL, 1: ALL}), sample_of({0: ALL, 1: ALL}), {}),
        (sample_of({0: ALL, 1: ALL, 2: ALL}), sample_of({2: DEFAULT, 1: ALL, 0: DEFAULT}), {LOST: (0, 2)}),
        (sample_of({0: ALL, 1: ALL}), sample_of({0: DEFAULT, 1: DEFAULT}), {LOST: (0, 1)}),
        (
            sample_of({0: ALL, 1: ALL, 2: DEFAULT, 3: ALL}),
            sample_of({0: DEFAULT, 1: NO_SIGNATURE, 2: ALL, 3: ALL}),
            {LOST: (0,), GONE: (1,), GAINED: (2,)},
        ),
        (sample_of({0: ALL, 1: DEFAULT, 2: DEFAULT}), sample_of({0: ALL}), {GAINED: ()}),
        (sample_of({0: ALL}), sample_of({0: ALL, 1: DEFAULT, 2: DEFAULT}), {LOST: ()}),
        (sample_of({0: ALL}), sample_of({1: DEFAULT}), {LOST: ()}),
        (sample_of({0: ALL}), sample_of({1: ALL}), {}),
        (sample_of({0: ALL}), sample_of({}, anywhere=DEFAULT, failed={0: "held"}), {LOST: ()}),
        (sample_of({0: ALL}, retained={1: ALL}), sample_of({0: ALL}, retained={1: DEFAULT}), {}),
        (sample_of({0: ALL}, retained={1: ALL}), sample_of({0: ALL, 1: DEFAULT}), {}),
        (sample_of({0: ALL}, anywhere=ALL), sample_of({0: ALL}, anywhere=DEFAULT), {}),
    ],
    ids=[
        *("none", "two CPUs of three", "all", "three ways", "CPUs left", "CPUs came", "other CPUs", "others, the same"),
        *("only unpinned", "retained", "visited again", "elsewhere unpinned"),
    ],
)
def test_changes(earlier: Sample, later: Sample, expected: Mapping[Difference, tuple[int, ...]]) -> None:
    """CPUs in both samples are grouped by their difference; without such CPUs, the common leaves are compared."""
    assert changes(earlier, later) == expected


@given(st.dictionaries(st.integers(0, 300), st.tuples(ANYTHING, ANYTHING), min_size=1, max_size=8))
def test_changes_name_every_cpu_that_differs_once(cpus: Mapping[int, tuple[Leaves, Leaves]]) -> None:
    """Every CPU whose leaves changed is listed once, in ascending order, under its own difference."""
    earlier = sample_of({cpu: before for cpu, (before, _) in cpus.items()})
    later = sample_of({cpu: after for cpu, (_, after) in cpus.items()})
    found = changes(earlier, later)
    assert sorted(cpu for group in found.values() for cpu in group) == sorted(
        cpu for cpu, (before, after) in cpus.items() if before != after
    )
    for change, group in found.items():
        assert group == tuple(sorted(group))
        assert all(difference(*cpus[cpu]) == change for cpu in group)
