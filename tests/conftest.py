"""What every test runs with."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from lab.notifications import Notifications, notifications
from lab.tools import MissingToolError
from tests.support.system.latch import Latch
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


@pytest.fixture
def latch(tmp_path: Path) -> Latch:
    """A latch that is open."""
    return Latch(tmp_path / "latch")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Notifications]:
    """A service manager that listens."""
    with notifications(tmp_path) as listening:
        yield listening
