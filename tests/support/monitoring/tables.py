"""Tables as Grafana shows them: its own code reads Prometheus' answers as a panel says."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from lab.tree import REPOSITORY
from tests.support.tools import missing, program

PACKAGES = REPOSITORY / "build" / "grafana"
"""Where scripts/grafana-packages installs them."""

Answers = Mapping[str, Any]
"""The result of each query of a panel, by its name."""

Row = dict[str, str]
"""The texts in the cells by the titles of their columns, in their order."""


def tables(several: Sequence[tuple[Mapping[str, Any], Answers]]) -> list[list[Row]]:
    """The rows of panels with their answers."""
    if not (PACKAGES / "node_modules" / "@grafana" / "data").exists():
        missing("@grafana/data (scripts/grafana-packages build/grafana)")
    ended = subprocess.run(
        [program("node"), REPOSITORY / "tests" / "node" / "tables.cjs"],
        input=json.dumps([{"panel": panel, "answers": answers} for panel, answers in several]),
        env={**os.environ, "NODE_PATH": str(PACKAGES / "node_modules")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    result: list[list[Row]] = json.loads(ended.stdout)
    return result
