"""Rules and configurations in a hurry: each wait is shorter by the same factor, and nothing else is different."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.pace import hurried
from lab.tree import DASHBOARDS, RULE_FILES

WAITS = {"for", "keep_firing_for", "group_wait", "group_interval", "repeat_interval"}
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def waits(node: Any, place: str = "") -> dict[str, float]:  # noqa: ANN401 - YAML of any shape
    """The waits in seconds, by where they are."""
    if isinstance(node, list):
        return {key: wait for number, one in enumerate(node) for key, wait in waits(one, f"{place}/{number}").items()}
    if not isinstance(node, dict):
        return {}
    found = {}
    for key, value in node.items():
        if key in WAITS:
            [(number, unit)] = re.findall(r"^(\d+)(\w+)$", value)
            found[f"{place}/{key}"] = int(number) * SECONDS[unit]
        found.update(waits(value, f"{place}/{key}"))
    return found


@pytest.mark.parametrize("path", [*RULE_FILES, DASHBOARDS / "alertmanager.example.yaml"], ids=lambda path: path.name)
def test_all_waits_are_shorter_and_nothing_else_is_different(path: Path) -> None:
    """In what ships; a factor of one changes no meaning at all."""
    text = path.read_text(encoding="utf-8")
    quick, same = hurried(text, 60), hurried(text, 1)
    before = waits(yaml.safe_load(text))
    assert waits(yaml.safe_load(quick)) == pytest.approx({key: wait / 60 for key, wait in before.items()}, abs=0.001)
    assert waits(yaml.safe_load(same)) == pytest.approx(before)
    changed = [line for line in text.splitlines() if line not in quick.splitlines()]
    assert len(changed) == len(before)


def test_no_wait_is_none_at_all() -> None:
    """Alertmanager refuses an interval of nothing."""
    assert hurried("group_interval: 1ms\n", 1000) == "group_interval: 1ms\n"
