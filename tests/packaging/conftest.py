"""What the tests of packages share."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvm_exporter import __version__
from lab.tree import REPOSITORY
from tests.support.packaging.container import EACH_SUITE, Container
from tests.support.packaging.debian import NAME, RULES, DebianPackage, build, unpacked
from tests.support.packaging.distribution import build as build_distribution
from tests.support.packaging.distribution import run
from tests.support.packaging.installed import install, system_with
from tests.support.packaging.unit import Unit


@pytest.fixture(scope="session")
def debian_package(tmp_path_factory: pytest.TempPathFactory) -> DebianPackage:
    """The Debian package of the exporter of this tree."""
    return build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def rules_package(debian_package: DebianPackage) -> DebianPackage:
    """The Debian package of the rules, beside that of the exporter."""
    return unpacked(debian_package.deb.parent, RULES)


@pytest.fixture(scope="session", params=EACH_SUITE)
def system(request: pytest.FixtureRequest, debian_package: DebianPackage) -> Iterator[Container]:
    """A booted Debian in which the package was installed."""
    with system_with(request.param, debian_package.deb.parent) as booted:
        install(booted, Path(debian_package.deb.name))
        yield booted


@pytest.fixture
def service(system: Container) -> Unit:
    """The exporter's service, just started, as it is installed."""
    unit = Unit(system, f"{NAME}.service")
    unit.start()
    return unit


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    build_distribution(folder)
    return folder


@pytest.fixture(scope="session")
def wheel(distribution: Path) -> Path:
    """The only wheel."""
    [found] = distribution.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def wheelhouse(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is filled as ``make dist`` does it."""
    folder = tmp_path_factory.mktemp("dist") / f"kvm-exporter-wheelhouse-{__version__}"
    run(REPOSITORY / "scripts/build-wheelhouse", sys.executable, folder, wheel, cwd=folder.parent)
    return folder


@pytest.fixture(scope="session")
def wheelhouse_archive(wheelhouse: Path) -> Path:
    """The same in an archive, as a release has it."""
    base = f"{wheelhouse}-{os.uname().machine}"
    return Path(shutil.make_archive(base, "tar", wheelhouse.parent, wheelhouse.name))
