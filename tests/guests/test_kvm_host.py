"""What this machine's own KVM can offer its guests, asked of the real device, and of devices without a driver."""

import logging
import os
import stat
import time
from pathlib import Path

import pytest

from kvm_exporter.collector import host
from kvm_exporter.collector.host import supported_features
from kvm_exporter.errors import ReadError
from tests.collector.test_host import REFUSED, collected, observer
from tests.support.guests.kvm import supported_cpuid
from tests.support.rooms.unprivileged import unprivileged
from tests.support.tools import kvm_device, missing

FEATURE_LEAF = (0x4000_0001, 0)

NO_DRIVER = (os.makedev(511, 0), os.makedev(10, 254))
"""A major number of nobody, and a minor one of nobody: ENXIO and ENODEV."""


def test_the_real_kvm_says_what_it_supports() -> None:
    """The feature leaf as another program reads it from the same device."""
    kvm_device()
    assert supported_features() == supported_cpuid()[FEATURE_LEAF]


def test_an_answer_that_does_not_fit_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """KVM says E2BIG until there is room for all of it."""
    kvm_device()
    monkeypatch.setattr(host, "_FIRST_ENTRIES", 1)
    assert supported_features() == supported_cpuid()[FEATURE_LEAF]


def test_an_answer_that_never_fits_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is an end to it."""
    kvm_device()
    monkeypatch.setattr(host, "_FIRST_ENTRIES", 1)
    monkeypatch.setattr(host, "_MOST_ENTRIES", 2)
    with pytest.raises(ReadError, match=r"^/dev/kvm: KVM_GET_SUPPORTED_CPUID: Argument list too long$"):
        supported_features()


def test_the_real_device_may_be_closed_to_the_exporter() -> None:
    """Its user is in no group that may open it: the message says what to do."""
    if stat.S_IMODE(kvm_device().stat().st_mode) & 0o006:
        pytest.skip("here everybody may open /dev/kvm")
    with unprivileged(), pytest.raises(ReadError) as error:
        supported_features()
    assert str(error.value) == f"/dev/kvm: {REFUSED}"


@pytest.mark.parametrize("number", NO_DRIVER)
def test_a_device_without_a_driver_is_no_host(tmp_path: Path, number: int) -> None:
    """As where the module is not loaded and the node is there."""
    device = tmp_path / "dev/kvm"
    device.parent.mkdir()
    try:
        os.mknod(device, stat.S_IFCHR | 0o600, number)
    except PermissionError:
        missing("permission to make device nodes")
    assert supported_features(tmp_path) is None


def test_a_host_is_asked_at_every_sample(caplog: pytest.LogCaptureFixture) -> None:
    """On the real device."""
    kvm_device()
    caplog.set_level(logging.DEBUG)
    start = time.monotonic()
    found = observer(Path("/")).observe(None)
    lasted = time.monotonic() - start
    assert (found.host, collected(found), caplog.messages) == (supported_cpuid()[FEATURE_LEAF], True, [])
    assert 0 < found.collectors["host"].duration <= lasted
