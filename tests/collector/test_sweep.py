"""kvm_exporter.collector.sweep: the CPUs that a sweep visits, CPUs that fail, and the repetition after a difference."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from kvm_exporter.collector.sweep import CpuSelection, sweep, sweep_once
from kvm_exporter.cpuid.registers import BASES, Reader
from kvm_exporter.errors import ReadError, UnavailableError
from kvm_exporter.kvm.features import FEATURES
from kvm_exporter.kvm.leaves import Leaves, find_hypervisors, read_leaves
from kvm_exporter.kvm.sample import Sample
from lab.readers import (
    BARE_METAL,
    BASE,
    ZEROS,
    Machine,
    Rows,
    failing_reader,
    guest,
    kvm_rows,
    leaf_1,
    reader,
    signature_leaf,
    strict_reader,
)

BEFORE, AFTER = kvm_rows(0x01007EFB), kvm_rows(0x0100007B)
OLD_HOST, NEW_HOST = strict_reader(BEFORE), strict_reader(AFTER)
OLD, NEW = guest(0x01007EFB), guest(0x0100007B)


def states(sample: Sample) -> dict[str, list[int]]:
    """Return the CPUs of each state that is not empty."""
    by_state = {
        "sampled": sample.sampled,
        "retained": sample.retained,
        "skipped": sample.skipped,
        "failed": sample.failed,
    }
    return {state: sorted(cpus) for state, cpus in by_state.items() if cpus}


def machine(*isolated: int, cpus: int = 4, read: Reader = OLD_HOST) -> Machine:
    """Return a machine with equal CPUs, some of them isolated."""
    return Machine(dict.fromkeys(range(cpus), read), isolated=isolated)


def move(source: Machine, read: Reader) -> None:
    """Migrate the machine to another host."""
    source.cpus = dict.fromkeys(source.cpus, read)


def test_every_cpu_is_visited_once_in_order() -> None:
    """If all CPUs agree, each is visited once, in ascending order."""
    source = machine(cpus=3)
    sample = sweep(source, CpuSelection(), None)
    assert source.visits == [0, 1, 2]
    assert (sample.anywhere, sample.sampled) == (OLD, {0: OLD, 1: OLD, 2: OLD})
    assert states(sample) == {"sampled": [0, 1, 2]}


@pytest.mark.parametrize(
    ("selection", "first", "second"),
    [
        (CpuSelection(), {"sampled": [0, 1, 2, 3]}, {"sampled": [0, 2], "retained": [1, 3]}),
        (CpuSelection(isolated="once"), {"sampled": [0, 1, 2, 3]}, {"sampled": [0, 2], "retained": [1, 3]}),
        (CpuSelection(isolated="always"), {"sampled": [0, 1, 2, 3]}, {"sampled": [0, 1, 2, 3]}),
        (
            CpuSelection(isolated="never"),
            {"sampled": [0, 2], "skipped": [1, 3]},
            {"sampled": [0, 2], "skipped": [1, 3]},
        ),
        (
            CpuSelection(cpus=frozenset({0, 1, 7})),
            {"sampled": [0, 1], "skipped": [2, 3]},
            {"sampled": [0], "retained": [1], "skipped": [2, 3]},
        ),
        (
            CpuSelection(isolated="always", cpus=frozenset({1})),
            {"sampled": [1], "skipped": [0, 2, 3]},
            {"sampled": [1], "skipped": [0, 2, 3]},
        ),
        (
            CpuSelection(isolated="never", cpus=frozenset({0, 1})),
            {"sampled": [0], "skipped": [1, 2, 3]},
            {"sampled": [0], "skipped": [1, 2, 3]},
        ),
        (CpuSelection(cpus=frozenset({9})), {"skipped": [0, 1, 2, 3]}, {"skipped": [0, 1, 2, 3]}),
    ],
)
def test_the_selection_says_which_cpus_are_visited(
    selection: CpuSelection, first: Mapping[str, list[int]], second: Mapping[str, list[int]]
) -> None:
    """Isolated CPUs are visited once, always or never, and others only if they are selected; each CPU has one state."""
    source = machine(1, 3)
    started = sweep(source, selection, None)
    assert states(started) == first
    assert source.visits == first.get("sampled", [])
    source.visits.clear()
    later = sweep(source, selection, started)
    assert states(later) == second
    assert source.visits == second.get("sampled", [])
    assert later.online == 4


def test_retained_cpus_keep_what_was_read() -> None:
    """The leaves of retained CPUs are kept through any number of samples."""
    source = machine(1, cpus=2)
    sample = sweep(source, CpuSelection(), None)
    for _ in range(3):
        sample = sweep(source, CpuSelection(), sample)
    assert (sample.sampled, sample.retained) == ({0: OLD}, {1: OLD})
    assert source.visits == [0, 1, 0, 0, 0]


def test_isolated_cpus_are_visited_again_when_another_cpu_has_changed() -> None:
    """If another CPU's leaves changed, isolated CPUs are visited again, since a migration concerns all CPUs."""
    source = machine(1, 3)
    last = sweep(source, CpuSelection(), sweep(source, CpuSelection(), None))
    move(source, NEW_HOST)
    source.visits.clear()
    sample = sweep(source, CpuSelection(), last)
    assert source.visits == [0, 2, 0, 1, 2, 3]
    assert sample.sampled == dict.fromkeys(range(4), NEW)
    assert states(sweep(source, CpuSelection(), sample)) == {"sampled": [0, 2], "retained": [1, 3]}


def test_isolated_cpus_that_are_the_largest_group_are_left_alone_too() -> None:
    """Retained CPUs count for the common leaves, so that leaving them out is not seen as a change."""
    source = Machine({0: OLD_HOST, 1: NEW_HOST, 2: NEW_HOST}, isolated=(1, 2))
    first = sweep(source, CpuSelection(), None)
    source.visits.clear()
    second = sweep(source, CpuSelection(), first)
    assert set(source.visits) == {0}
    assert (first.common, second.common) == (NEW, NEW)


def test_a_machine_of_isolated_cpus_notices_a_change_by_its_unpinned_read() -> None:
    """If no CPU is sampled, a change of the unpinned read causes a visit of all CPUs."""
    source = machine(0, 1, cpus=2)
    last = sweep(source, CpuSelection(), sweep(source, CpuSelection(), None))
    assert states(last) == {"retained": [0, 1]}
    move(source, NEW_HOST)
    assert sweep(source, CpuSelection(), last).sampled == {0: NEW, 1: NEW}


def test_a_lasting_difference_is_published_after_a_second_look() -> None:
    """A lasting difference is published after a second sweep, and causes no later visits of isolated CPUs."""
    source = machine(3)
    source.cpus[1] = NEW_HOST
    sample = sweep(source, CpuSelection(), None)
    assert source.visits == [0, 1, 2, 3, 0, 1, 2, 3]
    assert (sample.common, sample.divergent) == (OLD, (1,))
    source.visits.clear()
    later = sweep(source, CpuSelection(), sample)
    assert source.visits == [0, 1, 2, 0, 1, 2]
    assert (later.divergent, states(later)) == ((1,), {"sampled": [0, 1, 2], "retained": [3]})


def test_an_isolated_cpu_that_differs_is_shown_and_left_alone() -> None:
    """The second sweep visits isolated CPUs as the first did; a divergent one stays so, without any visit."""
    source = machine(2, cpus=3)
    source.cpus[2] = NEW_HOST
    sample = sweep(source, CpuSelection(), None)
    assert (sample.divergent, states(sample)) == ((2,), {"sampled": [0, 1, 2]})
    source.visits.clear()
    later = sweep(source, CpuSelection(), sample)
    assert (later.divergent, states(later)) == ((2,), {"sampled": [0, 1], "retained": [2]})
    assert source.visits == [0, 1]


def migrate_at(source: Machine, visit: int) -> None:
    """Migrate the machine to another host after a number of visits."""

    def migrate(visits: int) -> None:
        if visits == visit:
            move(source, NEW_HOST)

    source.visits.clear()
    source.before_visit = migrate


@pytest.mark.parametrize("isolated", [(), (0, 3), (3,)], ids=str)
@pytest.mark.parametrize("moves_at", [1, 2, 3])
def test_a_move_in_the_middle_of_the_first_sweep_is_no_difference(moves_at: int, isolated: tuple[int, ...]) -> None:
    """After a migration during the first sweep, only the leaves of the second sweep are published."""
    source = machine(*isolated)
    migrate_at(source, moves_at)
    sample = sweep(source, CpuSelection(), None)
    assert (sample.anywhere, sample.sampled, sample.divergent) == (NEW, dict.fromkeys(range(4), NEW), ())
    assert source.visits == [0, 1, 2, 3] * 2


@pytest.mark.parametrize(
    ("isolated", "moves_at"), [*(((), visit) for visit in range(4)), ((0, 3), 0), ((0, 3), 1), ((3,), 2)], ids=str
)
def test_a_move_in_the_middle_of_a_later_sweep_is_no_difference(isolated: tuple[int, ...], moves_at: int) -> None:
    """A migration during a later sweep differs from the last sample, and the second sweep is published."""
    source = machine(*isolated)
    last = sweep(source, CpuSelection(), sweep(source, CpuSelection(), None))
    migrate_at(source, moves_at)
    sample = sweep(source, CpuSelection(), last)
    assert (sample.anywhere, sample.sampled, sample.divergent) == (NEW, dict.fromkeys(range(4), NEW), ())


def test_a_change_that_is_gone_at_the_second_look_never_was() -> None:
    """If a change has disappeared in the second sweep, the published sample equals the last one."""
    source = machine()
    last = sweep(source, CpuSelection(), None)
    source.visits.clear()
    source.cpus[2] = NEW_HOST

    def heal(visits: int) -> None:
        if visits == len(source.cpus):
            source.cpus[2] = OLD_HOST

    source.before_visit = heal
    sample = sweep(source, CpuSelection(), last)
    assert source.visits == [0, 1, 2, 3] * 2
    assert (sample.sampled, sample.divergent) == (last.sampled, ())


def test_only_the_second_look_counts() -> None:
    """The second sweep is published even if the machine changes during it; the next sample will show the rest."""
    source = machine()
    last = sweep(source, CpuSelection(), None)
    source.visits.clear()

    def migrate(visits: int) -> None:
        source.cpus[visits % 4] = NEW_HOST if visits in {1, 6} else OLD_HOST

    source.before_visit = migrate
    sample = sweep(source, CpuSelection(), last)
    assert sample.sampled == {0: OLD, 1: OLD, 2: NEW, 3: OLD}
    assert sample.divergent == (2,)


def test_a_base_that_appears_after_a_restore_is_found() -> None:
    """All bases are scanned for every sample, so that a base that appears after a restore is found."""
    source = machine()
    last = sweep(source, CpuSelection(), None)
    move(source, strict_reader(kvm_rows(0x01007EFB, base=0x4000_FF00)))
    sample = sweep(source, CpuSelection(), last)
    assert sample.common == guest(0x01007EFB, base=0x4000_FF00)


def test_a_cpu_with_another_signature_lacks_kvm() -> None:
    """A CPU without the signature that the scan found has no KVM."""
    source = machine(cpus=3)
    source.cpus[1] = strict_reader(BEFORE | {BASE: ZEROS})
    sample = sweep(source, CpuSelection(), None)
    assert sample.sampled == {0: OLD, 1: Leaves(hypervisor_bit=True), 2: OLD}
    assert [sample.offering(feature) for feature in FEATURES][:2] == [2, 2]


@pytest.mark.parametrize("odd", range(4))
@pytest.mark.parametrize(
    "rows",
    [
        BARE_METAL,
        {1: leaf_1()},
        {1: leaf_1(), BASE: signature_leaf(b"TCGTCGTCGTCG", BASE + 1)},
        kvm_rows(0x01007EFB, base=0x4000_0300),
    ],
    ids=["bare metal", "hidden", "TCG", "another base"],
)
def test_one_odd_cpu_is_told_whichever_it_is(odd: int, rows: Rows) -> None:
    """A single different CPU is found, even if the bases were scanned on it or if it is visited first."""
    source = machine()
    source.cpus[odd] = source.home = strict_reader(rows)
    sample = sweep(source, CpuSelection(), None)
    assert (sample.common, sample.divergent) == (OLD, (odd,))
    assert sample.sampled[odd] == read_leaves(strict_reader(rows), find_hypervisors(strict_reader(rows)))


def test_cpus_like_the_one_before_are_not_scanned_again() -> None:
    """After an unpinned scan on a different CPU, the first of the others is scanned, and the rest are not."""
    asked: dict[int, list[int]] = {cpu: [] for cpu in range(3)}
    source = Machine(
        {cpu: strict_reader(BEFORE, leaves) for cpu, leaves in asked.items()}, home=strict_reader({1: leaf_1()})
    )
    assert sweep(source, CpuSelection(), None).common == OLD
    assert set(asked[0]) == {1, BASE + 1, *BASES}
    assert asked[1] == asked[2] == [1, BASE, BASE + 1]


@pytest.mark.parametrize("broken", ["held", failing_reader("held")], ids=["not reached", "not read"])
def test_a_cpu_that_fails_is_told_of_and_the_sweep_goes_on(broken: Reader | str) -> None:
    """A CPU that cannot be reached or read fails, the other CPUs are sampled, and each sample tries again."""
    source = Machine({0: OLD_HOST, 1: broken, 2: OLD_HOST})
    sample = sweep(source, CpuSelection(), sweep(source, CpuSelection(), None))
    assert (sample.sampled, sample.failed) == ({0: OLD, 2: OLD}, {1: "held"})
    assert source.visits == [0, 1, 2, 0, 1, 2]
    source.cpus[1] = OLD_HOST
    assert states(sweep(source, CpuSelection(), sample)) == {"sampled": [0, 1, 2]}


def test_where_every_cpu_fails_the_unpinned_read_is_a_sample() -> None:
    """If every CPU fails, as in a container without permission to pin, the unpinned read gives the common leaves."""
    source = Machine({0: "refused", 1: "refused"}, home=OLD_HOST)
    sample = sweep(source, CpuSelection(), None)
    assert (sample.common, sample.failed) == (OLD, {0: "refused", 1: "refused"})


def test_a_retained_cpu_does_not_stand_for_those_that_fail() -> None:
    """Nothing was read pinned if every CPU that was visited failed; where all are isolated, none has to be visited."""
    source = machine(1, cpus=2)
    last = sweep(source, CpuSelection(), None)
    source.cpus[0], source.home = "outside of the cpuset", OLD_HOST
    sample = sweep(source, CpuSelection(), last)
    assert (states(sample), sample.pinned) == ({"retained": [1], "failed": [0]}, False)
    source.cpus[0] = OLD_HOST
    assert sweep(source, CpuSelection(), sample).pinned
    isolated = Machine({0: OLD_HOST, 1: "held"}, isolated=[0, 1])
    later = sweep(isolated, CpuSelection(), sweep(isolated, CpuSelection(), None))
    assert (states(later), later.pinned) == ({"retained": [0], "failed": [1]}, True)


def test_an_isolated_cpu_that_failed_is_not_tried_until_something_changes() -> None:
    """A failed isolated CPU is not tried again until another CPU's leaves change."""
    source = Machine({0: OLD_HOST, 1: "held"}, isolated=[1])
    last = sweep(source, CpuSelection(), None)
    sample = sweep(source, CpuSelection(), last)
    assert (states(sample), sample.failed) == ({"sampled": [0], "failed": [1]}, {1: "held"})
    assert source.visits == [0, 1, 0]
    move(source, NEW_HOST)
    assert sweep(source, CpuSelection(), sample).sampled == {0: NEW, 1: NEW}


def test_cpus_come_and_go() -> None:
    """A CPU that went offline has no state; a new CPU is visited even if it is isolated."""
    source = machine(1, 3)
    last = sweep(source, CpuSelection(), None)
    del source.cpus[0], source.cpus[3]
    source.cpus |= {8: OLD_HOST, 9: OLD_HOST}
    source.isolated_cpus |= {9}
    source.visits.clear()
    sample = sweep(source, CpuSelection(), last)
    assert source.visits == [2, 8, 9]
    assert states(sample) == {"sampled": [2, 8, 9], "retained": [1]}
    assert states(sweep(source, CpuSelection(), sample)) == {"sampled": [2, 8], "retained": [1, 9]}


def test_no_cpu_is_left_out_when_nothing_is_known_of_isolated_ones() -> None:
    """Without an earlier sample all CPUs are visited, even if all are isolated."""
    assert states(sweep_once(machine(0, 1, 2, 3), CpuSelection(), None)) == {"sampled": [0, 1, 2, 3]}


class Refusing(Machine):
    """A machine on which CPUID cannot be executed."""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raise UnavailableError."""
        raise UnavailableError("CPUID faults in this process")
        yield


def test_a_machine_that_cannot_be_read_at_all_is_an_error() -> None:
    """If nothing can be read, an error is raised and no CPU is visited."""
    source = Refusing({0: OLD_HOST})
    with pytest.raises(UnavailableError):
        sweep(source, CpuSelection(), None)
    assert source.visits == []


def test_an_unpinned_read_that_fails_is_an_error() -> None:
    """A failure of the unpinned scan is an error, because the signatures are then unknown."""
    with pytest.raises(ReadError, match="moved"):
        sweep(Machine({0: OLD_HOST}, home=failing_reader("moved")), CpuSelection(), None)


def test_a_sample_tells_when_it_was_begun_and_how_long_it_took() -> None:
    """A sample has its start on the wall clock and on CLOCK_BOOTTIME, and its duration."""
    wall, boot = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    source = Machine({0: reader(BEFORE)})
    source.before_visit = lambda _: time.sleep(0.02)
    sample = sweep(source, CpuSelection(), None)
    assert wall <= sample.timestamp <= time.time() - 0.02
    assert boot <= sample.boottime <= time.clock_gettime(time.CLOCK_BOOTTIME) - 0.02
    assert 0.02 <= sample.duration <= time.clock_gettime(time.CLOCK_BOOTTIME) - boot
