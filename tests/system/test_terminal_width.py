"""What show and decode write to a terminal, and to a pipe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.patience import PATIENCE_SECONDS
from lab.tree import dump
from tests.support.system.terminal import terminal

KVM_DUMP, HOST_DUMP = dump("firecracker-amd-milan-2cpu"), dump("hosts/amd-milan-linux-6.18")
PROGRAM = (sys.executable, "-m", "kvm_exporter")


def in_terminal(columns: int, *arguments: str) -> list[str]:
    """Return the lines that the program writes to a terminal of so many columns."""
    # Passed, so that COLUMNS is not inherited: readline, which pytest loads, sets it in the environment of C alone.
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with terminal(*PROGRAM, *arguments, environment=environment, columns=columns) as shown:
        return shown.to_the_end().splitlines()


@pytest.mark.parametrize("arguments", [["show"], ["decode", str(KVM_DUMP)], ["decode", str(HOST_DUMP)]])
def test_every_line_fits_a_terminal(arguments: list[str]) -> None:
    """In 80 columns none is wider."""
    lines = in_terminal(80, *arguments)
    assert any(line.startswith("BIT ") for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("dump", [KVM_DUMP, HOST_DUMP], ids=["machine", "host"])
def test_lines_are_whole_in_a_pipe(dump: Path) -> None:
    """They are those of a wide terminal, whatever COLUMNS says: ``grep`` finds all of a row, and ``less`` scrolls."""
    whole = in_terminal(400, "decode", str(dump))
    assert max(map(len, whole)) > 80
    environment = {**os.environ, "COLUMNS": "80"}
    piped = subprocess.run(
        [*PROGRAM, "decode", dump],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    assert piped.stdout.splitlines() == whole
