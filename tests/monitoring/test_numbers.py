"""What the numbers and tables of the dashboards say where it is easy to say too little, or that nothing is wrong.

promtool evaluates the rules, and then the queries of the committed dashboards.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from grafana.problems_table import NAMES
from grafana.values import BAD
from problems import PROBLEMS, WEIGHTS, Problem

from lab.tree import DASHBOARDS, RULE_FILES
from tests.support.monitoring.fleet import Fleet, Machine, alert_rules, input_series, promtool_tests, series
from tests.support.monitoring.queries import PANELS

MINUTES = 10

Samples = Mapping[str, float]
"""The values of an answer by the labels of its series, as they are written."""

NOTHING: Samples = {}

SHARE_KNOWN: Machine = {series("kvm_fingerprint_info", fingerprint="a56f971aee6ec7ef"): 1}
WELL: Machine = {
    "up": 1,
    "kvm_present": 1,
    "kvm_exporter_sample_success": 1,
    "kvm_exporter_build_info": 1,
    "process_resident_memory_bytes": 30e6,
    **SHARE_KNOWN,
}
DOWN: Machine = {"up": 0}
MUTE: Machine = {"up": 1}
FAILING: Machine = {"up": 1, "kvm_exporter_sample_success": 0}

STEAL_TIME = {"feature": "steal_time", "register": "eax", "bit": "5"}
TLB_FLUSH = {"feature": "pv_tlb_flush", "register": "eax", "bit": "9"}
ASYNC_PF = {"feature": "async_pf", "register": "eax", "bit": "4"}
IO_DELAY = {"feature": "nop_io_delay", "register": "eax", "bit": "1"}


def lost(bit: Mapping[str, str]) -> Machine:
    """What a machine that is otherwise well shows once it lost a bit."""
    return {**WELL, series("kvm_feature_offered", **bit): 0, series("kvm_boot_feature_changed", **bit): -1}


def lacks(bit: Mapping[str, str]) -> Machine:
    """What a valid baseline that requires a bit adds to a machine that is not offered it."""
    return {series("kvm_exporter_collector_success", collector="baseline"): 1, violation(bit): -1}


def violation(bit: Mapping[str, str]) -> str:
    """The series of a bit that violates the baseline."""
    return series("kvm_baseline_violation", **bit)


def baseline(valid: int) -> Machine:
    """Whether the exporter could load its baseline."""
    return {**WELL, series("kvm_exporter_collector_success", collector="baseline"): valid}


def of(*machines: str, job: str = "kvm", value: float = 0, **labels: str) -> Samples:
    """The same value for each machine."""
    return {series("", instance=one, job=job, **labels): value for one in machines}


def problem(name: str, machine: str, **labels: str) -> Samples:
    """A row of the table of problems."""
    return of(machine, value=WEIGHTS[name], problem=name, **labels)


UNKNOWN = {series("", problem="unknown"): 0}
"""The row of the table of problems that says that the state is unknown."""

TILES = ("Alerts: alerts", "Lost features: lost", "Against baseline: against", "Not sampled: unknown", "Rare: rare")
ALL_UNKNOWN = {f"KVM fleet: {tile}": NOTHING for tile in TILES}
"""No result: a panel shows a grey question mark."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The machines of the job ``kvm``, other series, and what the queries of panels say, by their names."""

    expected: Mapping[str, Samples]
    machines: Fleet = field(default_factory=dict)
    #: As they are written, with their values for as long as they are there.
    others: Mapping[str, Sequence[float]] = field(default_factory=dict)
    rules: tuple[Path, ...] = RULE_FILES


def always(value: float) -> Sequence[float]:
    """A series that never ends."""
    return [value] * (MINUTES + 1)


def until_lately(value: float) -> Sequence[float]:
    """A series that ended minutes ago."""
    return [value] * 5


def promtool_says(folder: Path, scene: Scene) -> str:
    """What it has to say against that; empty if it agrees."""
    others = [
        {"series": name, "values": " ".join([*map(str, values), "stale"])} for name, values in scene.others.items()
    ]
    tests = [
        {
            "expr": PANELS[name],
            "eval_time": f"{MINUTES}m",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
        }
        for name, samples in scene.expected.items()
    ]
    found = [*input_series([(MINUTES + 1, scene.machines)]), *others]
    return promtool_tests(folder, {"interval": "1m", "input_series": found, "promql_expr_test": tests}, scene.rules)


GUESTS = ("guest-0", "guest-1", "guest-2")

OTHER_JOB = Scene(
    machines=dict.fromkeys(GUESTS, WELL),
    others={
        'up{job="node", instance="db-0"}': always(1),
        'up{job="node", instance="db-1"}': always(0),
        'up{job="node", instance="guest-0"}': always(0),
        'process_resident_memory_bytes{job="node", instance="guest-1"}': always(9e6),
    },
    expected={
        "KVM fleet: Not sampled: unknown": {"{}": 0},
        "KVM fleet: Problems: weight": NOTHING,
        "KVM fleet: variable machine: variable": of(*GUESTS),
        "KVM fleet: Machines to check first: worst": of(*GUESTS),
        "KVM fleet: Machines to check first: up": of(*GUESTS, value=1),
        "KVM guest: State: up": of(*GUESTS, value=1),
        "KVM guest: Memory: resident": of(*GUESTS, value=30e6),
    },
)
"""Targets of another exporter, some of them down, and some with the name of a guest."""

NO_RULES = Scene(
    machines={"guest-0": {**lost(STEAL_TIME), **lacks(STEAL_TIME)}, "guest-1": WELL, "guest-2": DOWN},
    rules=(),
    expected={
        **ALL_UNKNOWN,
        "KVM fleet: Problems: weight": {**problem("lost", "guest-0", feature="steal_time"), **UNKNOWN},
        "KVM fleet: Machines to check first: worst": NOTHING,
        "KVM fleet: variable machine: variable": of("guest-0", "guest-1"),
    },
)
"""A number without rules is no nought, and yet the machines are there, and what they say of themselves."""

NO_MACHINE = Scene(
    others={'up{job="node", instance="db-0"}': always(1)},
    expected={**ALL_UNKNOWN, "KVM fleet: Problems: weight": UNKNOWN, "KVM fleet: variable machine: variable": NOTHING},
)

NOT_SAMPLED = Scene(
    machines={"well": WELL, "down": DOWN, "mute": MUTE, "failing": FAILING},
    expected={
        "KVM fleet: Not sampled: unknown": {"{}": 3},
        "KVM fleet: Problems: weight": {
            **problem("not sampled", "down"),
            **problem("not sampled", "mute"),
            **problem("not sampled", "failing"),
        },
    },
)
"""One cannot be scraped, one cannot sample, and one is another program, which has a page for Prometheus, too."""

BASELINES = Scene(
    machines={
        "none": WELL,
        "invalid": baseline(0),
        "kept": baseline(1),
        "unsampled": {**FAILING, series("kvm_exporter_collector_success", collector="baseline"): 1},
        "violated": {**WELL, **lacks(ASYNC_PF)},
    },
    expected={
        "KVM guest: State: against": {**of("kept"), **of("violated", value=1)},
        "KVM fleet: Against baseline: against": {"{}": 1},
    },
)
NO_BASELINE = Scene(
    machines={"none": WELL, "invalid": baseline(0)},
    expected={"KVM guest: State: against": NOTHING, "KVM fleet: Against baseline: against": NOTHING},
)
A_BASELINE = Scene(
    machines={"none": WELL, "kept": baseline(1)}, expected={"KVM fleet: Against baseline: against": {"{}": 0}}
)

LOSSES = Scene(
    machines={
        "vanished": {**lost(ASYNC_PF), "kvm_present": 0},
        "dangerous": {**lost(STEAL_TIME), series("kvm_feature_offered", **TLB_FLUSH): 1},
        "ordinary": lost(ASYNC_PF),
        "harmless": lost(IO_DELAY),
        "required": {**lost(IO_DELAY), **lacks(IO_DELAY)},
    },
    expected={
        "KVM fleet: Lost features: lost": {"{}": 3},
        "KVM fleet: Problems: weight": {
            **problem("KVM vanished", "vanished"),
            **problem("lost", "vanished", feature="async_pf"),
            **problem("lost, dangerous", "dangerous", feature="steal_time"),
            **problem("lost", "ordinary", feature="async_pf"),
            **problem("lost, harmless", "harmless", feature="nop_io_delay"),
            **problem("required, not offered", "required", feature="nop_io_delay"),
        },
    },
)
"""Each with the row of what is to be done; a loss that does no harm hides nothing else."""


def shards(drifted: float) -> Mapping[str, Sequence[float]]:
    """The sums of two shards, one of which ended, and in the other one those of a job that is no more."""
    rare, usual = (f'job="kvm", fingerprint="{fingerprint}", shard="0"' for fingerprint in ("0", "1"))
    return {
        'cohort:up:count{job="kvm", shard="0"}': always(5000),
        'cohort:up:count{job="kvm", shard="1"}': until_lately(5000),
        'cohort:up:count{job="old", shard="0"}': until_lately(7),
        'cohort:up:sum{job="kvm", shard="0"}': always(4998),
        'cohort:up:sum{job="kvm", shard="1"}': until_lately(5000),
        'cohort:kvm_boot_feature_changes:drifted{job="kvm", shard="0"}': always(drifted),
        'cohort:kvm_boot_feature_changes:drifted{job="kvm", shard="1"}': until_lately(40),
        f"cohort_fingerprint:kvm_fingerprint_info:count{{{usual}}}": always(5000 - drifted),
        **({f"cohort_fingerprint:kvm_fingerprint_info:count{{{rare}}}": always(drifted)} if drifted else {}),
    }


SHARD_RULES = RULE_FILES[1:]
"""The global server has the rules on cohorts alone."""

SILENT_SHARD = Scene(
    others=shards(0),
    rules=SHARD_RULES,
    expected={
        "KVM shards: Machines: machines": {"{}": 10_000},
        "KVM shards: Not scraped: down": {"{}": 5002},
        "KVM shards: Drifted: drifted": NOTHING,
        "KVM shards: Rare: rare": NOTHING,
        "KVM shards: Problems of all machines: weight": {series("", job="kvm", problem="shard silent"): 0},
        "KVM shards: Problems of all machines: machines": {series("", job="kvm", problem="shard silent"): 5000},
    },
)
SOME_DRIFTED = Scene(
    others=shards(3),
    rules=SHARD_RULES,
    expected={"KVM shards: Drifted: drifted": {"{}": 3}, "KVM shards: Rare: rare": {"{}": 3}},
)
NO_COHORT_RULES = Scene(
    machines={"guest-0": WELL},
    rules=RULE_FILES[:1],
    expected={"KVM fleet: Rare: rare": NOTHING, "KVM fleet: Not sampled: unknown": {"{}": 0}},
)
"""A shard has the rules on machines alone, and does not know what is rare."""

SCENES = {
    "targets of another job": OTHER_JOB,
    "no rules": NO_RULES,
    "no machine": NO_MACHINE,
    "not sampled": NOT_SAMPLED,
    "baselines": BASELINES,
    "no valid baseline": NO_BASELINE,
    "a valid baseline": A_BASELINE,
    "losses": LOSSES,
    "a silent shard": SILENT_SHARD,
    "a silent shard, and drift on another": SOME_DRIFTED,
    "the rules of a shard": NO_COHORT_RULES,
}


@pytest.mark.parametrize("name", SCENES)
def test_a_number_is_of_what_is_known(tmp_path: Path, name: str) -> None:
    """All of it, and nothing else."""
    assert promtool_says(tmp_path, SCENES[name]) == ""


def test_the_committed_dashboards_know_the_exporters_of_other_rules(tmp_path: Path) -> None:
    """By what the rules record: a site writes those for its own selector, here of some targets of a job."""
    words = (f"--output={tmp_path}", '--exporters=job="guests", role="vm"')
    subprocess.run([sys.executable, DASHBOARDS / "generate.py", *words], check=True)
    targets = {("vm", "guest-0"): 0, ("vm", "guest-1"): 0, ("db", "db-0"): 0}
    scene = Scene(
        others={
            f'up{{job="guests", instance="{name}", role="{role}"}}': always(up) for (role, name), up in targets.items()
        },
        rules=tuple(tmp_path / path.name for path in RULE_FILES),
        expected={
            "KVM fleet: Not sampled: unknown": {"{}": 2},
            "KVM fleet: variable machine: variable": of(
                "guest-0", "guest-1", job="guests", value=WEIGHTS["not sampled"]
            ),
        },
    )
    assert promtool_says(tmp_path, scene) == ""


ALERTS = {
    "KVM vanished": "KvmVanished",
    "lost, dangerous": "KvmFeatureLostDangerous",
    "lost": "KvmFeatureLost",
    "lost, harmless": "KvmFeatureLostHarmless",
    "used, not offered": "KvmFeatureUsedNotOffered",
}


@pytest.mark.parametrize("one", [one for one in PROBLEMS if one.name in ALERTS], ids=lambda one: one.name)
def test_the_action_is_what_the_runbook_begins_with(one: Problem) -> None:
    """Its first sentence, word for word; and it is red unless the alert is mere information."""
    rule = alert_rules()[ALERTS[one.name]]
    first, _, _ = one.action.partition(". ")
    assert rule["annotations"]["runbook"].startswith(first)
    _, color = NAMES[str(WEIGHTS[one.name])]
    assert (color == BAD) == (rule["labels"]["severity"] != "info")
