"""What the tests in guests share."""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.guests.images import hypervisor_image
from tests.support.guests.twolevel import Laboratory


@pytest.fixture(scope="session")
def laboratory(pytestconfig: pytest.Config) -> Iterator[Laboratory]:
    """Real KVM guests; their machine is started when the first test needs it."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(text, file=sys.stderr)  # noqa: T201 - a second attempt must not go unnoticed where tests pass

    with TemporaryDirectory() as folder, Laboratory(hypervisor_image(Path(folder)), say) as laboratory:
        yield laboratory
