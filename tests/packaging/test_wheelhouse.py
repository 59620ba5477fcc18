"""dist/wheelhouse: for which systems its wheels are; test_bare_systems.py installs from it."""

import sys
from pathlib import Path

import pytest

from tests.support.packaging.distribution import OLDEST_GLIBC, needed_glibc

pytestmark = pytest.mark.slow


def test_every_wheel_is_for_old_systems_too(wheelhouse: Path) -> None:
    """Each runs with the C library of RHEL 9 and Ubuntu 22.04, or needs none; those of systemd-python are made here."""
    assert needed_glibc(wheelhouse) <= OLDEST_GLIBC
    assert [*wheelhouse.glob(f"systemd_python-*-cp3{sys.version_info.minor}-*.whl")] != []
