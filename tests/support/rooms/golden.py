"""Texts that are committed, and compared to the byte."""

import os
from pathlib import Path

import pytest

UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"


def hold_against(golden: Path, actual: str) -> None:
    """Compare a text with a committed file. With UPDATE_GOLDEN=1, write it where it has changed, and fail."""
    before = golden.read_text(encoding="utf-8") if golden.exists() else ""
    if UPDATE and actual != before:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(actual, encoding="utf-8")
        pytest.fail(f"{golden.name} has changed and was written; read git diff, and run the test again")
    assert actual == before
