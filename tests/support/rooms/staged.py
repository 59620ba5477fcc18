"""A virtual environment with the exporter, below a root directory, that the running Python takes for its own."""

import sys
from pathlib import Path

import pytest

VENV = "/opt/kvm-exporter"
PYTHON = "/usr/bin/python3.12"


def stage(root: Path, monkeypatch: pytest.MonkeyPatch, venv: str = VENV, base: str = "/usr") -> None:
    """Create the folders and the interpreter, and let ``sys`` name them."""
    programs, python = Path(f"{root}{venv}/bin"), Path(f"{root}{base}/bin/python3.12")
    for folder in (programs, python.parent):
        folder.mkdir(parents=True)
    python.touch(0o755)
    (programs / "python3").symlink_to(python)
    (programs / "kvm-exporter").write_text(f"#!{programs}/python3\n")
    (programs / "kvm-exporter").chmod(0o755)
    for name, value in (("prefix", programs.parent), ("base_prefix", f"{root}{base}")):
        monkeypatch.setattr(sys, name, str(value))
    monkeypatch.setattr(sys, "executable", str(programs / "python3"))
