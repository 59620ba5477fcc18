"""What every test runs with."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, settings

from lab.notifications import Notifications, notifications
from lab.tools import MissingToolError
from tests.support.system.latch import Latch
from tests.support.tools import missing
from tests.support.turn import turn

if TYPE_CHECKING:
    from tests.support.lanes import Lanes

FIGURE = "figure"
"""The property of a test's report that has a figure."""

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
# Thousands of runs that end at their first failure: always the same examples, and none made smaller.
settings.register_profile(
    "mutants", deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> "Lanes":
    """Divide the tests among processes, where pytest-xdist starts some."""
    from tests.support.lanes import Lanes  # noqa: PLC0415 - most of the time there is no pytest-xdist

    return Lanes(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test waits for its turn, with the fixtures that it is the first to need."""
    with turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    figures = [(one.nodeid, text) for one in reports for name, text in one.user_properties if name == FIGURE]
    if figures:
        terminalreporter.section("figures")
        for test, text in figures:
            terminalreporter.line(f"{test}: {text}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """A test is skipped where the lab misses a program; in CI it fails."""
    try:
        yield
    except MissingToolError as error:
        missing(str(error))


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Have a text printed at the end of the run, whether the test passes or not."""
    return partial(record_property, FIGURE)


@pytest.fixture
def latch(tmp_path: Path) -> Latch:
    """A latch that is open."""
    return Latch(tmp_path / "latch")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Notifications]:
    """A service manager that listens."""
    with notifications(tmp_path) as listening:
        yield listening
