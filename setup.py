"""What pyproject.toml cannot express: the cffi extension, the revision of the build, the licence and the README."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import setuptools

REVISION = Path("kvm_exporter/_revision.py")
SPDX_SETUPTOOLS = 77


def revision() -> str:
    """Return the commit of the build: from ``KVM_EXPORTER_REVISION``, else from git, else ``unknown``."""
    if named := os.environ.get("KVM_EXPORTER_REVISION"):
        return named
    git = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def licence() -> dict[str, str]:
    """Return the licence, as an SPDX expression (PEP 639) where setuptools knows that field: from 77 on."""
    knows_spdx = int(setuptools.__version__.partition(".")[0]) >= SPDX_SETUPTOOLS
    return {"license_expression" if knows_spdx else "license": "Apache-2.0"}


def readme() -> str:
    """Return README.md with absolute links: where a package index shows it, there are no files beside it."""
    published = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Source"]
    text = Path("README.md").read_text(encoding="utf-8")
    return re.sub(r"\]\((?!https?://|#)", f"]({published}/", text)


# An sdist contains the file, so that a wheel built from it without git has the same revision.
if Path(".git").exists() or not REVISION.exists():
    text = f'"""Written by setup.py: the commit that this package was built from."""\n\nREVISION = "{revision()}"\n'
    # Only if it changes, and in one step: programs start from the same tree during a build.
    if not REVISION.exists() or REVISION.read_text(encoding="utf-8") != text:
        written = REVISION.with_suffix(".new")
        written.write_text(text, encoding="utf-8")
        written.replace(REVISION)

setuptools.setup(
    cffi_modules=["kvm_exporter/_cpuid_build.py:ffibuilder"],
    long_description=readme(),
    long_description_content_type="text/markdown",
    **licence(),
)
