"""This repository's folders."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

DASHBOARDS = REPOSITORY / "dashboards"
UNITS = REPOSITORY / "packaging" / "systemd"

DUMPS = tuple(sorted((REPOSITORY / "lab" / "dumps").glob("*.txt")))
"""Dumps of machines, sorted by name; README.md beside them says where each comes from."""


def dump(name: str) -> Path:
    """The dump with a name, without its ``.txt``."""
    return REPOSITORY / "lab" / "dumps" / f"{name}.txt"
