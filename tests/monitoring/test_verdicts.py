"""docs/verdicts.md lists every alert, command and series of success, and each test that it names exists."""

import argparse
import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from kvm_exporter.app.cli import build_parser
from kvm_exporter.kvm.effects import Level
from kvm_exporter.report import kinds
from kvm_exporter.report.kinds import INCONSISTENT, Kind
from lab.tree import REPOSITORY
from tests.support.monitoring.catalogue import rendered
from tests.support.monitoring.fleet import alert_rules

PAGE = (REPOSITORY / "docs" / "verdicts.md").read_text(encoding="utf-8")

TESTS = re.findall(r"`([a-z_/]+\.py::test_\w+)`", PAGE)


def rows() -> Iterator[list[str]]:
    """Yield the cells of each row of each table, without the heads."""
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.endswith(("| test |", "| why |")):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def listed(column: int) -> list[str]:
    """Return the words in backquotes in a column of all tables, in order."""
    return [word for row in rows() if column < len(row) for word in re.findall(r"`([\w ]+)`", row[column])]


@cache
def functions(path: str) -> frozenset[str]:
    """Return the names of the functions in a file of tests."""
    tree = ast.parse((REPOSITORY / "tests" / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_alert_is_listed() -> None:
    """Every alert is in a row, and no row has an alert that does not exist."""
    assert set(re.findall(r"`(Kvm\w+)`", PAGE)) == alert_rules().keys()
    assert {word for word in (*listed(0), *listed(2)) if word.startswith("Kvm")} == alert_rules().keys()


def test_every_command_is_listed_with_its_exit_codes() -> None:
    """Each command of the program has a row in the table of exit codes, and each row a command."""
    [action] = [one for one in build_parser()._actions if isinstance(one, argparse._SubParsersAction)]  # noqa: SLF001 - argparse has no public list
    section = PAGE.partition("## Exit codes\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \| (\d)", section, re.MULTILINE)
    assert dict(found) == dict.fromkeys(action.choices, "0")


def test_every_series_of_success_is_listed() -> None:
    """Each series that says whether something succeeded has a row."""
    successes = {name for name in rendered() if name.endswith(("_success", "_successful"))}
    assert {word for word in listed(0) if word.startswith("kvm_exporter_")} == successes


def test_every_verdict_says_what_it_does_not_cover() -> None:
    """No cell of a row is empty, and each row but those of values that are not compared ends in a test."""
    for row in rows():
        assert all(row), row
        assert len(row) == 2 or "::test_" in row[-1], row


@pytest.mark.parametrize("name", sorted(set(TESTS)))
def test_each_named_test_exists(name: str) -> None:
    """A test that was renamed or removed is corrected in the page as well."""
    path, _, function = name.partition("::")
    assert function in functions(path)


KINDS = [*(kind for kind in vars(kinds).values() if isinstance(kind, Kind)), *INCONSISTENT.values()]
"""Every kind of finding, in the order of their definition."""

FINDINGS = re.findall(r"^\| `([a-z_]+)`(?::[^|]*)? \| (\w+) \| ([^|]*) \|", PAGE, re.MULTILINE)
"""The name, the level and the alerts of each finding."""


def test_every_finding_is_listed_with_its_level() -> None:
    """The findings of the page, of show and of JSON are the table's, level by level."""
    found = [(name, level.upper()) for name, level, _ in FINDINGS]
    assert found == [(kind.name, kind.level.name) for kind in KINDS]


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_finding_says_to_do_what_the_runbook_begins_with(kind: Kind) -> None:
    """Word for word, in the runbook of each of its alerts. Only where all is well there is nothing to do."""
    assert bool(kind.action) == (kind.level is not Level.OK)
    [alerts] = [alerts for name, _, alerts in FINDINGS if name == kind.name]
    for alert in re.findall(r"`(\w+)`", alerts):
        do = alert_rules()[alert]["annotations"]["runbook"].replace("`", "")
        assert do.startswith(kind.action), alert
