"""Machines as Prometheus finds them, minute by minute, and what of it promtool says that the committed rules make."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lab.tree import RULE_FILES
from tests.support.tools import monitoring_program

JOB = "kvm"

Machine = Mapping[str, float]
"""The value of each series, by its name and its own labels as they are written."""

Fleet = Mapping[str, Machine]
"""Machines by instance."""

Phase = tuple[int, Fleet]
"""So many minutes of what does not change."""


class Ago(float):
    """A time that is always so many seconds ago."""

    __slots__ = ()


class PerMinute(float):
    """A counter that grows by so much each minute, from 0 when the series begins."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Expected:
    """An alert with its full text."""

    labels: Mapping[str, str]
    summary: str
    description: str


Firing = Mapping[str, Sequence[Expected]]
"""The alerts that fire, by name."""


@cache
def rule_groups(rules: tuple[Path, ...] = RULE_FILES) -> dict[str, list[dict[str, Any]]]:
    """The recordings and alerts of files by the names of their groups, in the order of the files."""
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in rules]
    return {group["name"]: group["rules"] for file in files for group in file["groups"]}


@cache
def alert_rules() -> dict[str, dict[str, Any]]:
    """The committed alerts by name."""
    return {rule["alert"]: rule for rules in rule_groups().values() for rule in rules if "alert" in rule}


def series(name: str, **labels: str) -> str:
    """A name and labels as they are written."""
    return f"{name}{{{','.join(f'{label}={value!r}' for label, value in labels.items())}}}" if labels else name


def without(machine: Machine, *names: str) -> dict[str, float]:
    """A machine that lacks all series of some names."""
    return {one: value for one, value in machine.items() if one.partition("{")[0] not in names}


def minutes(phases: Sequence[Phase]) -> int:
    """How long they are together."""
    return sum(length for length, _ in phases)


def input_series(phases: Sequence[Phase]) -> list[dict[str, str]]:
    """As promtool reads them; a series that is gone gets the marker that a failed or poorer scrape leaves."""
    fleets = [fleet for length, fleet in phases for _ in range(length)]
    everything = {(instance, one) for _, fleet in phases for instance, machine in fleet.items() for one in machine}
    return [
        {"series": _target(one, instance), "values": _values([fleet.get(instance, {}).get(one) for fleet in fleets])}
        for instance, one in sorted(everything)
    ]


def promtool_says(
    folder: Path,
    phases: Sequence[Phase],
    checks: Mapping[int, Firing],
    *,
    ignored: set[str],
    rules: tuple[Path, ...] = RULE_FILES,
) -> str:
    """What it has to say against that at some minutes these alerts fire and no others; empty if it agrees."""
    test = {
        "interval": "1m",
        "input_series": input_series(phases),
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": _expected(name, firing.get(name, ()))}
            for minute, firing in checks.items()
            for name in alert_rules()
            if name not in ignored
        ],
    }
    return promtool_tests(folder, test, rules)


def promtool_tests(folder: Path, test: Mapping[str, Any], rules: tuple[Path, ...] = RULE_FILES) -> str:
    """What it has to say against a test of the rules, whose groups it evaluates in order; empty if it passes."""
    path = folder / "test.yaml"
    content = {
        "rule_files": [str(file) for file in rules],
        "group_eval_order": list(rule_groups(rules)),
        "evaluation_interval": "1m",
        "tests": [test],
    }
    path.write_text(yaml.safe_dump(content))
    promtool = [monitoring_program("bookworm", "promtool"), "test", "rules", str(path)]
    ended = subprocess.run(promtool, capture_output=True, text=True, check=False)
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr


def _target(one: str, instance: str) -> str:
    name, _, labels = one.rstrip("}").partition("{")
    return f"{name}{{{labels}{',' if labels else ''}job='{JOB}',instance='{instance}'}}"


def _values(found: Sequence[float | None]) -> str:
    words, before, count = [], None, 0.0
    for minute, value in enumerate(found):
        if value is None:
            words.append("_" if before is None else "stale")
            count = 0.0
        elif isinstance(value, PerMinute):
            count += value
            words.append(f"{count:.15g}")
        else:
            words.append(f"{minute * 60 - value if isinstance(value, Ago) else value:.15g}")
        before = value
    return " ".join(words)


def _expected(name: str, alerts: Sequence[Expected]) -> list[dict[str, Any]]:
    rule = alert_rules()[name]
    return [
        {
            "exp_labels": {"severity": rule["labels"]["severity"], "job": JOB, **alert.labels},
            "exp_annotations": {
                "summary": alert.summary,
                "description": alert.description,
                "runbook": rule["annotations"]["runbook"],
            },
        }
        for alert in alerts
    ]
