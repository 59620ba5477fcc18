"""Every recorded dump is decoded and rendered, and the whole text is compared with the committed one.

``make golden`` writes the texts again: read git diff before it is committed.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from kvm_exporter.collector.observer import Observation
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.cpuid.dump import parse_dump
from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.machine import machine_families
from kvm_exporter.metrics.negotiation import Format
from kvm_exporter.report.table import as_json, table
from lab.tree import DUMPS, HOST_DUMPS, REPOSITORY
from tests.support.rooms.golden import hold_against

GOLDEN = REPOSITORY / "tests" / "golden"


def decoded(dump: Path) -> Observation:
    """Return the observation that kvm-exporter decode makes of a dump."""
    return Observation(sweep(parse_dump(dump.read_bytes()), CpuSelection(), None))


def exposition(observation: Observation) -> str:
    """Return the machine's families as text."""
    return render(machine_families(observation.sample), Format.TEXT_0_0_4).decode()


OUTPUTS: dict[str, Callable[[Observation], str]] = {".prom": exposition, ".txt": table, ".json": as_json}
"""The renderer for each suffix of a golden file."""


@pytest.mark.parametrize("suffix", OUTPUTS)
@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
def test_a_dump_is_rendered_as_before(dump: Path, suffix: str) -> None:
    """Metrics, table and JSON equal the committed texts to the byte."""
    hold_against(GOLDEN / f"{dump.stem}{suffix}", OUTPUTS[suffix](decoded(dump)))


def test_every_golden_file_has_its_dump() -> None:
    """There is no golden file without a dump."""
    expected = {f"{dump.stem}{suffix}" for dump in DUMPS for suffix in OUTPUTS}
    assert {path.name for path in GOLDEN.iterdir() if path.is_file()} == expected


def test_every_dump_is_described() -> None:
    """README.md beside the dumps describes every dump."""
    readme = (DUMPS[0].parent / "README.md").read_text(encoding="utf-8")
    described = [line.split("|")[1].strip() for line in readme.splitlines() if line.startswith("| ") and ".txt" in line]
    assert sorted(described) == sorted(dump.name for dump in (*DUMPS, *HOST_DUMPS))
