"""kvm_exporter.collector.host: what KVM on this machine supports, from the real device and from unusable ones."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kvm_exporter.collector.host import own_kvm, supported_cpuid
from kvm_exporter.collector.observer import Observation, Observer
from kvm_exporter.collector.sweep import CpuSelection
from kvm_exporter.errors import ReadError
from lab.live import live_machine
from tests.support.rooms.kernel import CURRENT, kernel
from tests.support.rooms.unprivileged import unprivileged

REFUSED = "Permission denied; give the user access to it, on most systems with the group kvm"


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """The path of the device under a test's root; the file does not exist yet."""
    path = kernel(tmp_path) / "dev/kvm"
    path.parent.mkdir()
    return path


def _nothing(path: Path) -> None:
    del path


def _no_directory(path: Path) -> None:
    path.parent.rmdir()


def _a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


@pytest.mark.parametrize("prepare", [_nothing, _no_directory, _a_link_to_nothing])
def test_a_machine_without_the_device_has_no_host(device: Path, prepare: Callable[[Path], None]) -> None:
    """A missing device raises NoHostError."""
    prepare(device)
    assert (supported_cpuid(device.parents[1]), own_kvm(device.parents[1])) == (None, None)


def _null(path: Path) -> None:
    path.symlink_to("/dev/null")


def _a_file(path: Path) -> None:
    path.write_bytes(b"KVM")


def _a_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("prepare", [_null, _a_file, _a_directory])
def test_what_is_no_kvm_is_an_error(device: Path, prepare: Callable[[Path], None]) -> None:
    """A file that does not know the ioctl raises ReadError, and its descriptor is closed."""
    prepare(device)
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - numbers
    with pytest.raises(ReadError) as error:
        supported_cpuid(device.parents[1])
    assert str(error.value) == f"{device}: KVM_GET_SUPPORTED_CPUID: Inappropriate ioctl for device"
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208 - numbers


def observer(root: Path) -> Observer:
    """Return an Observer of a machine whose device is under a root."""
    return Observer(live_machine(0x01007EFB), CpuSelection(), None, root=root)


def collected(found: Observation) -> bool | None:
    """Return whether the host collector succeeded; None if there is no such collector."""
    return found.collectors["host"].success if "host" in found.collectors else None


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log, from the level DEBUG on."""
    caplog.set_level(logging.DEBUG)
    return caplog


def test_a_guest_has_no_host_collector(device: Path, log: pytest.LogCaptureFixture) -> None:
    """Without the device there is no host collector, and nothing is logged."""
    found = observer(device.parents[1]).observe(None)
    assert (found.host, collected(found), log.messages) == (None, None, [])


@pytest.mark.parametrize(("clocksource", "value"), [("tsc\n", True), ("kvm-clock\n", False), (None, None)])
def test_the_clocksource_of_a_host_needs_no_permission(
    tmp_path: Path,
    clocksource: str | None,
    value: bool | None,  # noqa: FBT001
) -> None:
    """It is known where the device is there, although it does not answer; without the device there is no host."""
    kernel(tmp_path, {CURRENT: clocksource})
    assert observer(tmp_path).observe(None).host_clocksource_based_on_tsc is None
    (tmp_path / "dev").mkdir()
    _null(tmp_path / "dev/kvm")
    assert observer(tmp_path).observe(None).host_clocksource_based_on_tsc is value


def test_a_host_that_nobody_wants_to_know_of_is_not_asked(device: Path, log: pytest.LogCaptureFixture) -> None:
    """With ``--no-collector.host`` the device is not opened."""
    _null(device)
    found = Observer(live_machine(1), CpuSelection(), None, host=False, root=device.parents[1]).observe(None)
    assert (found.host, collected(found), log.messages) == (None, None, [])


def test_a_complaint_is_logged_once(device: Path, log: pytest.LogCaptureFixture) -> None:
    """A repeated error is logged once, and again after a sample without it."""
    looking = observer(device.parents[1])
    unknown = f"cannot read which features this machine's own KVM supports: {device}: "
    no_kvm = f"{unknown}KVM_GET_SUPPORTED_CPUID: Inappropriate ioctl for device"
    _null(device)
    for _ in range(3):
        found = looking.observe(None)
        assert (found.host, collected(found)) == (None, False)
    assert [(record.levelname, record.message) for record in log.records] == [("INFO", no_kvm)]
    device.unlink()
    assert collected(looking.observe(None)) is None
    _null(device)
    assert collected(looking.observe(None)) is False
    assert log.messages == [no_kvm, no_kvm]


def test_a_device_that_may_not_be_opened_is_said_and_shown(log: pytest.LogCaptureFixture) -> None:
    """A device that cannot be opened is logged and shown as a failed collector; the sample itself succeeds."""
    # pytest's directory is no use here: other users cannot reach it.
    with TemporaryDirectory() as name:
        root = kernel(Path(name))
        root.chmod(0o755)
        device = root / "dev/kvm"
        device.parent.mkdir()
        device.touch(0)
        looking = observer(root)
        with unprivileged():
            found = [looking.observe(None) for _ in range(2)]
    assert [(one.host, collected(one)) for one in found] == [(None, False)] * 2
    assert log.messages == [f"cannot read which features this machine's own KVM supports: {device}: {REFUSED}"]
