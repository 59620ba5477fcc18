"""Fleets that are too large to be had: the story of the roll-out, told fast, and a small one that is measured."""

import re
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.fleet.bodies import samples
from benchmarks.fleet.cost import Times
from benchmarks.fleet.federated import OWN, RANKED, Answer, answers, federated, sent
from benchmarks.fleet.kinds import IN_A_THOUSAND, KINDS, kind_of, name
from benchmarks.fleet.rollout import simulate
from benchmarks.fleet.rollout import table as table_of_messages
from benchmarks.fleet.scale import measure
from benchmarks.fleet.scale import table as table_of_costs
from benchmarks.fleet.shards import real, synthetic
from benchmarks.fleet.shards import table as table_of_shards
from benchmarks.fleet.story import MINUTES, WAVES, Rollout, State
from tests.support.monitoring.fleet import rule_groups
from tests.support.tools import monitoring_program

GUESTS = 200

TENS = 100
"""More messages than a person reads."""


def states(guests: int, minute: float) -> Counter[State]:
    """How many guests are in which state."""
    rollout = Rollout(guests)
    return Counter(rollout.state(guest, minute) for guest in range(guests))


def test_the_story_begins_with_everybody_on_the_old_kernel() -> None:
    """Until the first wave."""
    assert states(10_000, WAVES[0].begin - 1) == {State.OLD: 10_000}


def test_the_story_has_its_first_few_on_their_own_for_more_than_an_hour() -> None:
    """A hundred of ten thousand, one of which was never moved."""
    assert states(10_000, WAVES[1].begin - 1) == {State.OLD: 9_901, State.MOVED: 99}
    assert WAVES[1].begin - WAVES[0].end > 60


def test_the_story_ends_with_nearly_all_on_the_new_kernel() -> None:
    """Except for those that were forgotten; all can be scraped, and some have lost a feature."""
    assert states(10_000, MINUTES) == {State.OLD: 100, State.MOVED: 9_700, State.WORSE: 200}


def test_guests_move_once() -> None:
    """From the old kernel to the new one, silent between or not, and never back."""
    rollout = Rollout(GUESTS)
    for guest in range(GUESTS):
        told = [rollout.state(guest, minute) for minute in range(MINUTES)]
        order = [state for state, before in zip(told, [None, *told], strict=False) if state is not before]
        assert order[0] is State.OLD
        assert order[1:] in ([], [State.MOVED], [State.WORSE], [State.SILENT, State.MOVED], [State.SILENT, State.WORSE])


def test_a_guest_that_is_not_of_the_fleet_has_no_state() -> None:
    """There are so many."""
    with pytest.raises(ValueError, match="guest 200 is not one of 200"):
        Rollout(GUESTS).state(GUESTS, 0)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [0, 2], ids=["one server", "two shards"])
def test_a_rollout_is_told_of_in_few_messages(tmp_path: Path, shards: int) -> None:
    """The messages cover the whole roll-out, and not one guest each; with shards as with one server."""
    monitoring_program("bookworm", "prometheus")
    counts = simulate(GUESTS, 600, tmp_path, "bookworm", shards)
    expected = {"KvmFeatureGained", "KvmFeatureLostHarmless", "KvmFingerprintRare", "KvmFleetMixed"}
    assert counts.keys() - {"KvmExporterDown"} == expected
    assert counts["KvmFeatureLostHarmless"].alerts == states(GUESTS, MINUTES)[State.WORSE]
    assert sum(count.messages for count in counts.values()) < TENS
    assert table_of_messages(GUESTS, counts).count("\n") == len(counts) + 3


def test_a_fleet_has_machines_of_every_kind() -> None:
    """In the shares that are said."""
    counts = Counter(kind_of(machine) for machine in range(10_000))
    assert counts == {kind: 10 * count for kind, count in IN_A_THOUSAND.items()} | {
        "usual": 10_000 - 10 * sum(IN_A_THOUSAND.values())
    }


def test_a_fleet_is_measured(tmp_path: Path) -> None:
    """Every series of every machine is there, the rules and the queries take some time, and the table says so."""
    monitoring_program("bookworm", "prometheus")
    cost = measure(30, tmp_path / "fleet", "bookworm", Times(scrape=1, evaluate=1))
    assert cost.machines == 30
    assert 80 < cost.series / cost.machines < 140
    assert min(cost.rules) > 0
    assert sum(cost.shares.values()) == pytest.approx(1)
    assert "KvmFeatureUsedNotOffered" in cost.shares
    assert min(cost.queries.values()) > 0
    assert cost.families["kvm_present"] == cost.families["up"] == 30
    assert sum(cost.families.values()) < cost.series
    assert re.search(r"^ +30 +\d+ ", table_of_costs([cost]), re.MULTILINE)


@pytest.fixture(scope="module")
def of_kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """What a real shard sends for one machine of each kind."""
    monitoring_program("bookworm", "prometheus")
    return answers(tmp_path_factory.mktemp("kinds") / "shards", "bookworm")


def parsed(text: str) -> dict[tuple[str, str], float]:
    """The values of what a shard sends by name and labels; which machine is an example of others is left open."""
    found = {(metric, labels): float(value.split()[0]) for metric, labels, value in samples(text)}
    assert len(found) == len([line for line in text.splitlines() if not line.startswith("#")])
    return {
        (metric, re.sub('instance="[^"]+"', "", labels) if metric.endswith(":example") else labels): value
        for (metric, labels), value in found.items()
    }


@pytest.mark.slow
def test_a_synthetic_shard_sends_what_a_real_one_does(of_kinds: dict[str, Answer], tmp_path: Path) -> None:
    """With the same machines, some of each kind: the same series with the same labels and values."""
    machines = [*range(20), 300, 301]
    assert {kind_of(machine) for machine in machines} == KINDS.keys()
    [real_one] = sent(tmp_path / "shard", "bookworm", [{name(machine): kind_of(machine) for machine in machines}])
    assert parsed(federated(of_kinds, machines, 0)) == parsed(real_one)


@pytest.mark.slow
def test_a_synthetic_shard_grows_in_feature_sets_alone(of_kinds: dict[str, Answer]) -> None:
    """One more for each thousand machines; it names no more machines than a real one ranks, the worst."""
    [rule] = (rule for rule in rule_groups()["kvm-sums"] if rule.get("record") == "ranked:kvm_problem:weight")
    assert f"topk({RANKED}," in rule["expr"]
    small, large = (parsed(federated(of_kinds, range(size), 7)) for size in (OWN, 10 * OWN))
    assert [value for one in (small, large) for (metric, _), value in one.items() if metric == "cohort:up:count"] == [
        OWN,
        10 * OWN,
    ]
    sets = [
        sum(metric == "cohort_fingerprint:kvm_fingerprint_info:count" for metric, _ in one) for one in (small, large)
    ]
    assert sets[1] - sets[0] == 9
    ranked = {labels for metric, labels in large if metric.startswith("ranked:") and 'problem="lost"' in labels}
    assert len(ranked) == RANKED


@pytest.mark.slow
def test_servers_that_share_machines_are_measured(of_kinds: dict[str, Answer], tmp_path: Path) -> None:
    """Two real shards with a server for cohorts, and a server for synthetic ones: each has a row with all figures."""
    rows = real(2, 15, tmp_path / "real", "bookworm", Times(scrape=1, evaluate=1))
    rows.append(synthetic(3, 40, of_kinds, tmp_path / "synthetic", "bookworm", 600))
    assert [(what, one.machines) for what, one in rows[2:]] == [("global of 2", 30), ("global of 3 synthetic", 120)]
    assert sum(one.machines for _, one in rows[:2]) == 30
    for _, one in rows:
        assert min(one.rules) > 0
        assert one.series > 0
    assert all(min(one.queries.values()) > 0 for _, one in rows[2:])
    assert re.search(r"^shard 1 of 2 +\d+ ", table_of_shards(rows), re.MULTILINE)
