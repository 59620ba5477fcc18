"""scripts/quietly: what builds prints nothing of its own, unless it fails."""

import subprocess

import pytest

from lab.tree import REPOSITORY

QUIETLY = REPOSITORY / "scripts/quietly"


@pytest.mark.parametrize(
    ("code", "said"),
    [(0, ""), (3, "made\nwarned\nkvm-exporter: sh failed with exit code 3; its output is above\n")],
)
def test_it_prints_what_failed(code: int, said: str) -> None:
    """On standard error: standard output is for what is made."""
    ended = subprocess.run(
        [QUIETLY, "sh", "-c", f"echo made; echo warned >&2; exit {code}"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", said)
