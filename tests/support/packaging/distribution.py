"""What is given to pip: an sdist and the wheel that is built from it, by what ``make dist`` runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lab.tree import REPOSITORY
from tests.support.tree import tracked

OLDEST_GLIBC = 34
"""The minor version of glibc 2 in RHEL 9; Ubuntu 22.04 has 35."""


def build(folder: Path) -> None:
    """Both, in a folder, from a copy of this tree. The build fetches its requirements from the package index."""
    tree = folder / "tree"
    for name in tracked():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, tree / name, follow_symlinks=False)
    shutil.copy2(REPOSITORY / "kvm_exporter/_revision.py", tree / "kvm_exporter")
    run(REPOSITORY / "scripts/build-dist", sys.executable, folder, tree, cwd=folder)


def needed_glibc(wheelhouse: Path) -> int:
    """The minor version of glibc 2 that all wheels of a folder run with. Those for any system run with all."""
    tags = [path.stem.rpartition("-")[2] for path in wheelhouse.glob("*.whl")]
    return max(min(map(int, re.findall(r"manylinux_2_(\d+)_", tag))) for tag in tags if tag != "any")


def run(*command: str | Path, cwd: Path) -> str:
    """What a program prints that has nothing from the tests' own environment; it must succeed."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTHON"))},
        "PIP_CONSTRAINT": str(REPOSITORY / "constraints.txt"),
    }
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
