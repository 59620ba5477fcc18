"""kvm_exporter.kvm.sample: the common leaves of a machine, and which CPUs count for them."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.kvm.features import FEATURES, feature_at
from kvm_exporter.kvm.leaves import Leaves
from kvm_exporter.kvm.sample import Sample
from lab.readers import guest, sample_of

DEFAULT = guest(0x0100007B)
ALL = guest(0x01007EFB)
OLD = guest(0x0100000B)
NO_KVM = Leaves(hypervisor_bit=True)
CPUS = st.dictionaries(st.integers(0, 9000), st.sampled_from([DEFAULT, ALL, OLD, NO_KVM]), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("sampled", "common", "divergent"),
    [
        ({0: ALL}, ALL, ()),
        ({0: ALL, 1: ALL}, ALL, ()),
        ({0: DEFAULT, 1: ALL, 2: ALL}, ALL, (0,)),
        ({0: DEFAULT, 1: ALL}, DEFAULT, (1,)),
        ({1: ALL, 0: DEFAULT}, DEFAULT, (1,)),
        ({7: OLD, 5: ALL, 3: DEFAULT, 4: DEFAULT, 6: ALL}, DEFAULT, (5, 6, 7)),
        ({7: OLD, 5: ALL, 3: OLD, 4: DEFAULT, 6: ALL, 2: DEFAULT}, DEFAULT, (3, 5, 6, 7)),
        ({0: NO_KVM, 1: NO_KVM, 2: ALL}, NO_KVM, (2,)),
        ({0: NO_KVM, 1: ALL, 2: ALL}, ALL, (0,)),
    ],
)
def test_the_largest_group_is_what_the_machine_offers(
    sampled: Mapping[int, Leaves], common: Leaves, divergent: tuple[int, ...]
) -> None:
    """The largest group gives the common leaves; a tie goes to the lowest CPU number. The other CPUs diverge."""
    sample = sample_of(sampled, anywhere=OLD)
    assert (sample.common, sample.divergent) == (common, divergent)


@given(CPUS)
def test_common_and_divergent_make_up_the_sampled_cpus(sampled: Mapping[int, Leaves]) -> None:
    """No group is larger than the common one, and no equally large one has a lower CPU number."""
    sample = sample_of(sampled)
    groups = {leaves: sorted(cpu for cpu in sampled if sampled[cpu] == leaves) for leaves in sampled.values()}
    largest = min(groups, key=lambda leaves: (-len(groups[leaves]), groups[leaves][0]))
    assert sample.common == largest
    assert sorted([*sample.divergent, *groups[largest]]) == sorted(sampled)


def test_where_no_cpu_could_be_sampled_the_unpinned_read_stands_in() -> None:
    """Without a pinned read the unpinned one gives the common leaves, and no CPU diverges."""
    sample = sample_of({}, anywhere=ALL, failed={0: "refused", 1: "refused"})
    assert (sample.common, sample.divergent, sample.known, sample.online) == (ALL, (), {}, 2)


def test_the_unpinned_read_does_not_count_beside_a_pinned_one() -> None:
    """The unpinned read is ignored beside a pinned one, so that the value does not depend on where a thread ran."""
    assert sample_of({3: DEFAULT}, anywhere=ALL).common == DEFAULT


def test_equal_cpus_need_not_be_the_same() -> None:
    """CPUs are compared by value: leaves that were read separately are equal."""
    assert sample_of({cpu: guest(0x01007EFB) for cpu in range(3)}).divergent == ()


def test_retained_cpus_count_as_sampled_ones_do() -> None:
    """Retained CPUs count for the common leaves and diverge, so that neither depends on visits of isolated CPUs."""
    sample = sample_of({2: DEFAULT}, retained={0: ALL, 1: ALL, 3: DEFAULT, 4: ALL})
    assert (sample.common, sample.divergent) == (ALL, (2, 3))
    assert list(sample.known.items()) == [(0, ALL), (1, ALL), (2, DEFAULT), (3, DEFAULT), (4, ALL)]


def test_every_online_cpu_counts_once() -> None:
    """The number of online CPUs is the sum of sampled, retained, skipped and failed ones."""
    sample = sample_of({0: ALL, 1: ALL, 2: ALL}, retained={3: ALL}, skipped=[4, 5], failed={6: "held"})
    assert sample.online == 7


def test_a_feature_is_counted_on_the_cpus_that_are_known() -> None:
    """Sampled and retained CPUs with the bit set are counted; a CPU without KVM offers no feature."""
    sample = sample_of({0: DEFAULT, 1: DEFAULT, 2: NO_KVM, 3: OLD}, retained={4: ALL}, failed={5: "held"})
    counts = {feature.name: sample.offering(feature) for feature in sample.features}
    assert {name: count for name, count in counts.items() if count} == {
        "clocksource": 4,
        "nop_io_delay": 4,
        "clocksource2": 4,
        "async_pf": 3,
        "steal_time": 3,
        "pv_eoi": 3,
        "pv_unhalt": 1,
        "pv_tlb_flush": 1,
        "async_pf_vmexit": 1,
        "pv_send_ipi": 1,
        "poll_control": 1,
        "pv_sched_yield": 1,
        "async_pf_int": 1,
        "clocksource_stable_bit": 4,
    }


def test_without_kvm_no_feature_is_shown() -> None:
    """No feature is listed if the common leaves have no KVM, even if a divergent CPU has."""
    assert sample_of({0: NO_KVM, 1: NO_KVM, 2: ALL}).features == ()


def test_all_assigned_features_are_shown_where_none_is_offered() -> None:
    """All assigned features are listed for KVM without any feature."""
    assert sample_of({0: guest(0)}).features == FEATURES


@pytest.mark.parametrize(
    "elsewhere",
    [
        sample_of({0: ALL, 1: ALL, 2: guest(0x41007EFB, 1 << 31)}),
        sample_of({0: ALL}, retained={2: guest(0x40000000, 1 << 31)}),
        sample_of({0: ALL, 1: ALL, 2: guest(0x40000000), 3: guest(0, 1 << 31)}),
    ],
    ids=["sampled", "retained", "two CPUs"],
)
def test_an_unassigned_bit_on_one_cpu_is_shown(elsewhere: Sample) -> None:
    """An unassigned bit is listed if it is set on at least one known CPU."""
    expected = sorted([*FEATURES, feature_at("eax", 30), feature_at("edx", 31)])
    assert list(elsewhere.features) == expected
