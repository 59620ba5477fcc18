"""The parts of the build that pyproject.toml cannot express: the cffi extension, and the revision of the build."""

import os
import subprocess
from pathlib import Path

from setuptools import setup

REVISION = Path("kvm_exporter/_revision.py")


def revision() -> str:
    """Return the commit of the build: from ``KVM_EXPORTER_REVISION``, else from git, else ``unknown``."""
    if named := os.environ.get("KVM_EXPORTER_REVISION"):
        return named
    git = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# An sdist contains the file, so that a wheel built from it without git has the same revision.
if Path(".git").exists() or not REVISION.exists():
    text = f'"""Written by setup.py: the commit that this package was built from."""\n\nREVISION = "{revision()}"\n'
    # Only if it changes, and in one step: programs start from the same tree during a build.
    if not REVISION.exists() or REVISION.read_text(encoding="utf-8") != text:
        written = REVISION.with_suffix(".new")
        written.write_text(text, encoding="utf-8")
        written.replace(REVISION)

setup(cffi_modules=["kvm_exporter/_cpuid_build.py:ffibuilder"])
