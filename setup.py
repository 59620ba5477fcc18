"""The parts of the build that pyproject.toml cannot say: the cffi extension, and the revision that is being built."""

import os
import subprocess
from pathlib import Path

from setuptools import setup

REVISION = Path("kvm_exporter/_revision.py")


def revision() -> str:
    """The commit that is being built: from ``KVM_EXPORTER_REVISION``, else from git, else nothing is known."""
    if named := os.environ.get("KVM_EXPORTER_REVISION"):
        return named
    git = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# An sdist carries the file, so that a wheel built from it, with no git about, still knows.
if Path(".git").exists() or not REVISION.exists():
    REVISION.write_text(
        f'"""Written by setup.py: the commit that this package was built from."""\n\nREVISION = "{revision()}"\n',
        encoding="utf-8",
    )

setup(cffi_modules=["kvm_exporter/_cpuid_build.py:ffibuilder"])
