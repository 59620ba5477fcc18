"""dist/wheelhouse: for which systems its wheels are; test_bare_systems.py installs from it."""

import re
import sys
from pathlib import Path

import pytest

from tests.support.packaging.distribution import OLDEST_GLIBC

pytestmark = pytest.mark.slow


def test_every_wheel_is_for_old_systems_too(wheelhouse: Path) -> None:
    """Each runs with the C library of RHEL 9 and Ubuntu 22.04, or needs none; those of systemd-python are made here."""
    tags = {path.stem: path.stem.rpartition("-")[2] for path in wheelhouse.iterdir()}
    oldest = {name: min(map(int, re.findall(r"manylinux_2_(\d+)_", tag)), default=None) for name, tag in tags.items()}
    assert {name for name, tag in tags.items() if tag != "any" and oldest[name] is None} == set()
    assert max(minor for minor in oldest.values() if minor is not None) <= OLDEST_GLIBC
    pythons = {match[1] for name in tags if (match := re.match(r"systemd_python-\d+-(cp\d+)-", name))}
    assert f"cp3{sys.version_info.minor}" in pythons
