"""Prometheus' own check of names, types, units and help, of all that is exposed."""

import subprocess
from pathlib import Path

import pytest

from kvm_exporter.metrics.exporter import textfile_body
from lab.tree import DUMPS
from tests.metrics.test_exporter_textfile import OBSERVATION
from tests.report.test_golden import decoded, exposition
from tests.support.tools import monitoring_program


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
def test_it_finds_no_fault_with_the_metrics(dump: Path) -> None:
    """Of each recorded machine."""
    assert checked(exposition(decoded(dump)).encode()) == (0, b"", b"")


def test_it_finds_no_fault_with_the_textfile() -> None:
    """That node_exporter serves."""
    assert checked(textfile_body(OBSERVATION, 60)) == (0, b"", b"")


def checked(body: bytes) -> tuple[int, bytes, bytes]:
    """Exit code, output and errors of promtool, given a body."""
    promtool = [monitoring_program("bookworm", "promtool"), "check", "metrics"]
    ended = subprocess.run(promtool, input=body, capture_output=True, check=False)
    return ended.returncode, ended.stdout, ended.stderr
