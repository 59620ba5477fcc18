"""The folders of this repository."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

DASHBOARDS = REPOSITORY / "dashboards"
RULE_FILES = (DASHBOARDS / "machine-rules.yaml", DASHBOARDS / "cohort-rules.yaml")
"""The rules for Prometheus; a server that scrapes all machines loads both."""

UNITS = REPOSITORY / "packaging" / "systemd"

DUMPS = tuple(sorted((REPOSITORY / "lab" / "dumps").glob("*.txt")))
"""The dumps of machines, sorted by name; README.md in their folder lists their origins."""

HOST_DUMPS = tuple(sorted((REPOSITORY / "lab" / "dumps" / "hosts").glob("*.txt")))
"""The dumps of hosts, as ``kvm-exporter dump --host`` prints them, sorted by name."""


def dump(name: str) -> Path:
    """Return the path of a dump, given its name without ``.txt``."""
    return REPOSITORY / "lab" / "dumps" / f"{name}.txt"
