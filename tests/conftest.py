"""What every test runs with."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, settings

from lab.notifications import Notifications, notifications
from lab.tools import MissingToolError
from tests.support.guests.images import hypervisor_image
from tests.support.guests.twolevel import Laboratory
from tests.support.packaging.container import SUITES, Container
from tests.support.packaging.debian import NAME, DebianPackage, build
from tests.support.packaging.distribution import build as build_distribution
from tests.support.packaging.installed import install, system_with
from tests.support.packaging.unit import Unit
from tests.support.system.gate import Gate
from tests.support.tools import missing

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=200)
# Thousands of runs that end at their first failure: always the same examples, and none made smaller.
settings.register_profile(
    "mutants", deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """A test is skipped where the lab misses a program; in CI it fails."""
    try:
        yield
    except MissingToolError as error:
        missing(str(error))


@pytest.fixture(scope="module")
def laboratory(pytestconfig: pytest.Config) -> Iterator[Laboratory]:
    """Real KVM guests; their machine is started when the first of a module's tests needs it."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(text, file=sys.stderr)  # noqa: T201 - a second attempt must not go unnoticed where tests pass

    with TemporaryDirectory() as folder, Laboratory(hypervisor_image(Path(folder)), say) as laboratory:
        yield laboratory


@pytest.fixture(scope="session")
def debian_package(tmp_path_factory: pytest.TempPathFactory) -> DebianPackage:
    """The Debian package of this tree."""
    return build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module", params=SUITES)
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


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """A gate that is open."""
    return Gate(tmp_path / "gate")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Notifications]:
    """A service manager that listens."""
    with notifications(tmp_path) as listening:
        yield listening
