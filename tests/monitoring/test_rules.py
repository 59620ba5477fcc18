"""The rules as files: generated, well formed, about metrics that there are, in the house's manner, with runbooks."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lab.tree import DASHBOARDS, RULE_FILES
from tests.support.monitoring.catalogue import rendered
from tests.support.monitoring.fleet import alert_rules
from tests.support.monitoring.promql import selectors
from tests.support.monitoring.queries import committed_rules
from tests.support.tools import monitoring_program

REPOSITORY = DASHBOARDS.parent
RUNBOOKS = (REPOSITORY / "docs" / "runbooks.md").read_text(encoding="utf-8")
METRICS = (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
ALERTMANAGER = DASHBOARDS / "alertmanager.example.yaml"

SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOKS, re.MULTILINE | re.DOTALL))


def run(*command: str | Path) -> None:
    """A program that must succeed."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    """Byte for byte: no file was changed by hand, is out of date, or is left over."""
    run(sys.executable, DASHBOARDS / "generate.py", f"--output={tmp_path}", "--dashboards")
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")}
    committed = {path.relative_to(DASHBOARDS) for end in ("json", "yaml") for path in DASHBOARDS.rglob(f"*.{end}")}
    assert written == committed - {ALERTMANAGER.relative_to(DASHBOARDS)}
    for path in written:
        assert (tmp_path / path).read_bytes() == (DASHBOARDS / path).read_bytes(), path


def test_prometheus_accepts_the_rules() -> None:
    """Its own check, which knows PromQL and the templates."""
    run(monitoring_program("bookworm", "promtool"), "check", "rules", *RULE_FILES)


@pytest.mark.parametrize("release", ["bookworm", "sid"])
def test_alertmanager_accepts_the_example(release: str) -> None:
    """Its own check."""
    run(monitoring_program(release, "amtool"), "check-config", ALERTMANAGER)


def test_the_metrics_are_the_exporters() -> None:
    """Every name in an expression is one that it renders and that docs/metrics.md knows."""
    read = {str(one.name) for rule in committed_rules() for one in selectors(rule["expr"])}
    used = {name for name in read if name.startswith("kvm_")}
    assert used <= rendered()
    assert {name for name in used if not described(name)} == set()


def test_every_series_is_described() -> None:
    """In docs/metrics.md, whether a rule or a panel asks for it or not; families named otherwise aside."""
    series = {name for name in rendered() if not {f"{name}_info", f"{name}_total"} & rendered()}
    assert {name for name in series if name.startswith("kvm_") and not described(name)} == set()


def described(name: str) -> bool:
    """Whether docs/metrics.md names a metric, or its end after others that begin alike."""
    shortened = re.findall(r"`…(_[a-z_]+)`", METRICS)
    return f"`{name}`" in METRICS or any(name.endswith(end) for end in shortened)


def test_what_is_recorded_is_used_by_its_name() -> None:
    """Every recorded series in an expression has a recording rule."""
    recorded = {rule["record"] for rule in committed_rules() if "record" in rule}
    used = {name for rule in committed_rules() for name in re.findall(r"\w+:\w+:\w+", rule["expr"])}
    assert used <= recorded


@pytest.mark.parametrize("name", alert_rules())
def test_an_alert_is_in_the_manner_of_the_house(name: str) -> None:
    """It needs no memory of its own, joins nothing that may be there twice, and has what people need to act."""
    rule = alert_rules()[name]
    assert not re.search(r"\b(changes|resets|delta|offset|group_left|group_right)\b *\(?", rule["expr"])
    assert "signature_info" not in rule["expr"]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}


def test_every_alert_has_its_runbook() -> None:
    """And every runbook its alert, which says what to do; each says what it means, how to check and what to do."""
    assert SECTIONS.keys() == alert_rules().keys()
    assert re.findall(r"^## .*$", RUNBOOKS, re.MULTILINE) == [f"## {name}" for name in SECTIONS]
    for name, text in SECTIONS.items():
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Meaning", "Check", "Do"], name
        words = re.findall(r"\w+", re.sub(r"\]\([^)]*\)", "", text.partition("**Do.**")[2]))
        assert re.findall(r"\w+", alert_rules()[name]["annotations"]["runbook"]) == words


def test_inhibitions_are_about_alerts_that_there_are() -> None:
    """Each name in a matcher is one of them."""
    for rule in yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            names = re.findall(r"Kvm\w+", matcher)
            assert "Kvm.+" in matcher or set(names) <= alert_rules().keys(), matcher
