"""Programs that tests need. Where one is missing the test is skipped, but fails in CI: nothing hides there."""

import os
import platform
from pathlib import Path

import pytest

from lab import servers, tools
from tests.support.slow import slow_but_first

RELEASES = servers.RELEASES
"""The releases of Debian whose servers are there: 12, and the newest."""

EACH_RELEASE = slow_but_first(RELEASES)
"""For tests that start servers of one release at a time: make test has Debian 12's, make test-all the others' too."""


def missing(what: str) -> None:
    """Skip the running test because something is missing; in CI, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI has to have it")
    pytest.skip(f"{what} is missing")


def kvm_device() -> Path:
    """Where guests are made. A machine that has none skips the test, in CI too: nothing that is installed brings it."""
    device = Path("/dev/kvm")
    if platform.machine() != "x86_64" or not device.exists():
        pytest.skip("this machine runs no x86 guests: it has no /dev/kvm")
    if not os.access(device, os.R_OK | os.W_OK):
        missing("permission to read and write /dev/kvm")
    return device


def program(name: str) -> str:
    """The path of a program that Debian's packages install."""
    try:
        return tools.program(name)
    except tools.MissingToolError as error:
        missing(str(error))
        raise


def monitoring_program(release: str, name: str) -> str:
    """The path of a program such as prometheus, of one of RELEASES."""
    try:
        return str(servers.tool(release, name))
    except tools.MissingToolError as error:
        missing(str(error))
        raise
