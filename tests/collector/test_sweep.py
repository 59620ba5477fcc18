"""One look at every CPU: which are visited, what a failing one costs, and the second look at a difference."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from kvm_exporter.collector.sweep import Selection, look, sweep
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
    """The CPUs of each state that has any."""
    by_state = {
        "sampled": sample.sampled,
        "retained": sample.retained,
        "skipped": sample.skipped,
        "failed": sample.failed,
    }
    return {state: sorted(cpus) for state, cpus in by_state.items() if cpus}


def machine(*isolated: int, cpus: int = 4, read: Reader = OLD_HOST) -> Machine:
    """Four equal CPUs, some of them isolated."""
    return Machine(dict.fromkeys(range(cpus), read), isolated=isolated)


def move(source: Machine, read: Reader) -> None:
    """Migrate the machine to another host."""
    source.cpus = dict.fromkeys(source.cpus, read)


def test_every_cpu_is_visited_once_in_order() -> None:
    """A machine whose CPUs agree is looked at once."""
    source = machine(cpus=3)
    sample = look(source, Selection(), None)
    assert source.visits == [0, 1, 2]
    assert (sample.anywhere, sample.sampled) == (OLD, {0: OLD, 1: OLD, 2: OLD})
    assert states(sample) == {"sampled": [0, 1, 2]}


@pytest.mark.parametrize(
    ("selection", "first", "second"),
    [
        (Selection(), {"sampled": [0, 1, 2, 3]}, {"sampled": [0, 2], "retained": [1, 3]}),
        (Selection(isolated="once"), {"sampled": [0, 1, 2, 3]}, {"sampled": [0, 2], "retained": [1, 3]}),
        (Selection(isolated="always"), {"sampled": [0, 1, 2, 3]}, {"sampled": [0, 1, 2, 3]}),
        (Selection(isolated="never"), {"sampled": [0, 2], "skipped": [1, 3]}, {"sampled": [0, 2], "skipped": [1, 3]}),
        (
            Selection(cpus=frozenset({0, 1, 7})),
            {"sampled": [0, 1], "skipped": [2, 3]},
            {"sampled": [0], "retained": [1], "skipped": [2, 3]},
        ),
        (
            Selection(isolated="always", cpus=frozenset({1})),
            {"sampled": [1], "skipped": [0, 2, 3]},
            {"sampled": [1], "skipped": [0, 2, 3]},
        ),
        (
            Selection(isolated="never", cpus=frozenset({0, 1})),
            {"sampled": [0], "skipped": [1, 2, 3]},
            {"sampled": [0], "skipped": [1, 2, 3]},
        ),
        (Selection(cpus=frozenset({9})), {"skipped": [0, 1, 2, 3]}, {"skipped": [0, 1, 2, 3]}),
    ],
)
def test_the_selection_says_which_cpus_are_visited(
    selection: Selection, first: Mapping[str, list[int]], second: Mapping[str, list[int]]
) -> None:
    """Isolated CPUs once, each time or never, and of a list of CPUs only those; each CPU has one state."""
    source = machine(1, 3)
    started = look(source, selection, None)
    assert states(started) == first
    assert source.visits == first.get("sampled", [])
    source.visits.clear()
    later = look(source, selection, started)
    assert states(later) == second
    assert source.visits == second.get("sampled", [])
    assert later.online == 4


def test_retained_cpus_keep_what_was_read() -> None:
    """Through any number of samples."""
    source = machine(1, cpus=2)
    sample = look(source, Selection(), None)
    for _ in range(3):
        sample = look(source, Selection(), sample)
    assert (sample.sampled, sample.retained) == ({0: OLD}, {1: OLD})
    assert source.visits == [0, 1, 0, 0, 0]


def test_isolated_cpus_are_visited_again_when_another_cpu_has_changed() -> None:
    """A machine that has moved has moved with all its CPUs."""
    source = machine(1, 3)
    last = look(source, Selection(), look(source, Selection(), None))
    move(source, NEW_HOST)
    source.visits.clear()
    sample = look(source, Selection(), last)
    assert source.visits == [0, 2, 0, 1, 2, 3]
    assert sample.sampled == dict.fromkeys(range(4), NEW)
    assert states(look(source, Selection(), sample)) == {"sampled": [0, 2], "retained": [1, 3]}


def test_isolated_cpus_that_are_the_largest_group_are_left_alone_too() -> None:
    """Not visiting most CPUs does not make them a minority, which would look like a change."""
    source = Machine({0: OLD_HOST, 1: NEW_HOST, 2: NEW_HOST}, isolated=(1, 2))
    first = look(source, Selection(), None)
    source.visits.clear()
    second = look(source, Selection(), first)
    assert set(source.visits) == {0}
    assert (first.common, second.common) == (NEW, NEW)


def test_a_machine_of_isolated_cpus_notices_a_change_by_its_unpinned_read() -> None:
    """Where no CPU is sampled the thread still runs somewhere."""
    source = machine(0, 1, cpus=2)
    last = look(source, Selection(), look(source, Selection(), None))
    assert states(last) == {"retained": [0, 1]}
    move(source, NEW_HOST)
    assert look(source, Selection(), last).sampled == {0: NEW, 1: NEW}


def test_a_lasting_difference_is_published_after_a_second_look() -> None:
    """One CPU that offers less is shown, and the isolated ones are left alone when nothing more changes."""
    source = machine(3)
    source.cpus[1] = NEW_HOST
    sample = look(source, Selection(), None)
    assert source.visits == [0, 1, 2, 3, 0, 1, 2, 3]
    assert (sample.common, sample.divergent) == (OLD, (1,))
    source.visits.clear()
    later = look(source, Selection(), sample)
    assert source.visits == [0, 1, 2, 0, 1, 2]
    assert (later.divergent, states(later)) == ((1,), {"sampled": [0, 1, 2], "retained": [3]})


def test_an_isolated_cpu_that_differs_at_the_start_is_shown() -> None:
    """The second look visits it as the first did, and counts it among those that differ."""
    source = machine(2, cpus=3)
    source.cpus[2] = NEW_HOST
    sample = look(source, Selection(), None)
    assert (sample.divergent, states(sample)) == ((2,), {"sampled": [0, 1, 2]})


def migrate_at(source: Machine, visit: int) -> None:
    """Migrate the machine to another host when so many CPUs have been visited."""

    def migrate(visits: int) -> None:
        if visits == visit:
            move(source, NEW_HOST)

    source.visits.clear()
    source.before_visit = migrate


@pytest.mark.parametrize("isolated", [(), (0, 3), (3,)], ids=str)
@pytest.mark.parametrize("moves_at", [1, 2, 3])
def test_a_move_in_the_middle_of_the_first_sweep_is_no_difference(moves_at: int, isolated: tuple[int, ...]) -> None:
    """The second look finds all CPUs on the new host, and nothing of the first is kept."""
    source = machine(*isolated)
    migrate_at(source, moves_at)
    sample = look(source, Selection(), None)
    assert (sample.anywhere, sample.sampled, sample.divergent) == (NEW, dict.fromkeys(range(4), NEW), ())
    assert source.visits == [0, 1, 2, 3] * 2


@pytest.mark.parametrize(
    ("isolated", "moves_at"), [*(((), visit) for visit in range(4)), ((0, 3), 0), ((0, 3), 1), ((3,), 2)], ids=str
)
def test_a_move_in_the_middle_of_a_later_sweep_is_no_difference(isolated: tuple[int, ...], moves_at: int) -> None:
    """It is a change from the last sample, which the second look finds to be complete."""
    source = machine(*isolated)
    last = look(source, Selection(), look(source, Selection(), None))
    migrate_at(source, moves_at)
    sample = look(source, Selection(), last)
    assert (sample.anywhere, sample.sampled, sample.divergent) == (NEW, dict.fromkeys(range(4), NEW), ())


def test_a_change_that_is_gone_at_the_second_look_never_was() -> None:
    """What is published equals the last sample."""
    source = machine()
    last = look(source, Selection(), None)
    source.visits.clear()
    source.cpus[2] = NEW_HOST

    def heal(visits: int) -> None:
        if visits == len(source.cpus):
            source.cpus[2] = OLD_HOST

    source.before_visit = heal
    sample = look(source, Selection(), last)
    assert source.visits == [0, 1, 2, 3] * 2
    assert (sample.sampled, sample.divergent) == (last.sampled, ())


def test_only_the_second_look_counts() -> None:
    """A machine that changes during that one too is published as it was then; the next sample tells."""
    source = machine()
    last = look(source, Selection(), None)
    source.visits.clear()

    def migrate(visits: int) -> None:
        source.cpus[visits % 4] = NEW_HOST if visits in {1, 6} else OLD_HOST

    source.before_visit = migrate
    sample = look(source, Selection(), last)
    assert sample.sampled == {0: OLD, 1: OLD, 2: NEW, 3: OLD}
    assert sample.divergent == (2,)


def test_a_base_that_appears_after_a_restore_is_found() -> None:
    """All bases are scanned for every sample."""
    source = machine()
    last = look(source, Selection(), None)
    move(source, strict_reader(kvm_rows(0x01007EFB, base=0x4000_FF00)))
    sample = look(source, Selection(), last)
    assert sample.common == guest(0x01007EFB, base=0x4000_FF00)


def test_a_cpu_with_another_signature_lacks_kvm() -> None:
    """What the scan found elsewhere is absent there."""
    source = machine(cpus=3)
    source.cpus[1] = strict_reader(BEFORE | {BASE: ZEROS})
    sample = look(source, Selection(), None)
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
    """Also where the thread runs there when it scans the bases, and where that CPU is visited first."""
    source = machine()
    source.cpus[odd] = source.home = strict_reader(rows)
    sample = look(source, Selection(), None)
    assert (sample.common, sample.divergent) == (OLD, (odd,))
    assert sample.sampled[odd] == read_leaves(strict_reader(rows), find_hypervisors(strict_reader(rows)))


def test_cpus_like_the_one_before_are_not_scanned_again() -> None:
    """Where the unpinned scan ran on the odd one, the first of the others is scanned, and no more."""
    asked: dict[int, list[int]] = {cpu: [] for cpu in range(3)}
    source = Machine(
        {cpu: strict_reader(BEFORE, leaves) for cpu, leaves in asked.items()}, home=strict_reader({1: leaf_1()})
    )
    assert look(source, Selection(), None).common == OLD
    assert set(asked[0]) == {1, BASE + 1, *BASES}
    assert asked[1] == asked[2] == [1, BASE, BASE + 1]


@pytest.mark.parametrize("broken", ["held", failing_reader("held")], ids=["not reached", "not read"])
def test_a_cpu_that_fails_is_told_of_and_the_sweep_goes_on(broken: Reader | str) -> None:
    """Whether it cannot be reached or not be read there, at the start as well as later; it is tried each time."""
    source = Machine({0: OLD_HOST, 1: broken, 2: OLD_HOST})
    sample = look(source, Selection(), look(source, Selection(), None))
    assert (sample.sampled, sample.failed) == ({0: OLD, 2: OLD}, {1: "held"})
    assert source.visits == [0, 1, 2, 0, 1, 2]
    source.cpus[1] = OLD_HOST
    assert states(look(source, Selection(), sample)) == {"sampled": [0, 1, 2]}


def test_where_every_cpu_fails_the_unpinned_read_is_a_sample() -> None:
    """A container that may not pin at all is told what the machine offers."""
    source = Machine({0: "refused", 1: "refused"}, home=OLD_HOST)
    sample = look(source, Selection(), None)
    assert (sample.common, sample.failed) == (OLD, {0: "refused", 1: "refused"})


def test_an_isolated_cpu_that_failed_is_not_tried_until_something_changes() -> None:
    """It is disturbed as rarely as the others."""
    source = Machine({0: OLD_HOST, 1: "held"}, isolated=[1])
    last = look(source, Selection(), None)
    sample = look(source, Selection(), last)
    assert (states(sample), sample.failed) == ({"sampled": [0], "failed": [1]}, {1: "held"})
    assert source.visits == [0, 1, 0]
    move(source, NEW_HOST)
    assert look(source, Selection(), sample).sampled == {0: NEW, 1: NEW}


def test_cpus_come_and_go() -> None:
    """One that went offline is in no state; one that came is visited, isolated or not."""
    source = machine(1, 3)
    last = look(source, Selection(), None)
    del source.cpus[0], source.cpus[3]
    source.cpus |= {8: OLD_HOST, 9: OLD_HOST}
    source.isolated_cpus |= {9}
    source.visits.clear()
    sample = look(source, Selection(), last)
    assert source.visits == [2, 8, 9]
    assert states(sample) == {"sampled": [2, 8, 9], "retained": [1]}
    assert states(look(source, Selection(), sample)) == {"sampled": [2, 8], "retained": [1, 9]}


def test_no_cpu_is_left_out_when_nothing_is_known_of_isolated_ones() -> None:
    """A sweep without an earlier sample visits all of them."""
    assert states(sweep(machine(0, 1, 2, 3), Selection(), None)) == {"sampled": [0, 1, 2, 3]}


class Refusing(Machine):
    """A machine in whose process CPUID cannot be executed."""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raise before anything is read."""
        raise UnavailableError("CPUID faults in this process")
        yield


def test_a_machine_that_cannot_be_read_at_all_is_an_error() -> None:
    """There is no sample without a single read, and no CPU is visited."""
    source = Refusing({0: OLD_HOST})
    with pytest.raises(UnavailableError):
        look(source, Selection(), None)
    assert source.visits == []


def test_an_unpinned_read_that_fails_is_an_error() -> None:
    """Without the scan of the bases nothing is known of any CPU."""
    with pytest.raises(ReadError, match="moved"):
        look(Machine({0: OLD_HOST}, home=failing_reader("moved")), Selection(), None)


def test_a_sample_tells_when_it_was_begun_and_how_long_it_took() -> None:
    """On the wall clock, and on the one that goes on while the machine is suspended."""
    wall, boot = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    source = Machine({0: reader(BEFORE)})
    source.before_visit = lambda _: time.sleep(0.02)
    sample = look(source, Selection(), None)
    assert wall <= sample.timestamp <= time.time() - 0.02
    assert boot <= sample.boottime <= time.clock_gettime(time.CLOCK_BOOTTIME) - 0.02
    assert 0.02 <= sample.duration <= time.clock_gettime(time.CLOCK_BOOTTIME) - boot
