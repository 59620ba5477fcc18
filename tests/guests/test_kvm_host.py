"""What this machine's own KVM can offer its guests, asked of the real device, and of devices without a driver."""

import logging
import os
import stat
import time
from pathlib import Path

import pytest

from kvm_exporter.app.cli import main
from kvm_exporter.collector.host import own_kvm, supported_cpuid
from kvm_exporter.cpuid.dump import Rows, parse_dump
from kvm_exporter.cpuid.registers import HYPERVISOR_BIT, Registers
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.leaves import Kvm
from tests.collector.test_host import REFUSED, collected, observer
from tests.support.guests import kvm
from tests.support.rooms.unprivileged import unprivileged
from tests.support.tools import kvm_device, missing

LEAF_1, FEATURE_LEAF = (1, 0), (0x4000_0001, 0)

NO_DRIVER = (os.makedev(511, 0), os.makedev(10, 254))
"""A major number without a driver, and a minor one without: ENXIO and ENODEV."""


def of_any_cpu(rows: Rows | None) -> dict[tuple[int, int], Registers]:
    """The rows without EBX of leaf 1, which has the APIC ID of the CPU that KVM happened to run on."""
    return {row: words._replace(ebx=0) if row == LEAF_1 else words for row, words in (rows or {}).items()}


def test_the_real_kvm_says_what_it_supports() -> None:
    """Every leaf as another program reads it from the same device."""
    kvm_device()
    assert of_any_cpu(supported_cpuid()) == of_any_cpu(kvm.supported_cpuid())


def test_the_real_device_may_be_closed_to_the_exporter() -> None:
    """Its user is in no group that may open it: the message says what to do."""
    if stat.S_IMODE(kvm_device().stat().st_mode) & 0o006:
        pytest.skip("here everybody may open /dev/kvm")
    with unprivileged(), pytest.raises(ReadError) as error:
        supported_cpuid()
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
    assert own_kvm(tmp_path) is None


def test_a_host_is_asked_at_every_sample(caplog: pytest.LogCaptureFixture) -> None:
    """On the real device."""
    kvm_device()
    caplog.set_level(logging.DEBUG)
    start = time.monotonic()
    found = observer(Path("/")).observe(None)
    lasted = time.monotonic() - start
    words = kvm.supported_cpuid()[FEATURE_LEAF]
    assert (found.host, collected(found), caplog.messages) == (Kvm(0x4000_0000, words.eax, words.edx), True, [])
    assert 0 < found.collectors["host"].duration <= lasted


def test_the_dump_of_this_host(capsys: pytest.CaptureFixture[str]) -> None:
    """It has the leaves that a guest's dump has, with KVM's own values, and names itself a host's."""
    kvm_device()
    assert main(["dump", "--host"]) == 0
    dumped = parse_dump(capsys.readouterr().out.encode())
    expected = of_any_cpu(kvm.supported_cpuid())
    expected[LEAF_1] = expected[LEAF_1]._replace(ecx=expected[LEAF_1].ecx | HYPERVISOR_BIT)
    leaves = [(0, 0), LEAF_1, (0x4000_0000, 0), FEATURE_LEAF]
    assert dumped.of_host
    assert of_any_cpu(dumped.cpus[0]) == {leaf: expected[leaf] for leaf in leaves}


def test_a_host_that_may_not_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """Without permission on the real device the command ends with 1, and says what to do."""
    if stat.S_IMODE(kvm_device().stat().st_mode) & 0o006:
        pytest.skip("here everybody may open /dev/kvm")
    with unprivileged():
        assert main(["dump", "--host"]) == 1
    assert capsys.readouterr() == ("", f"kvm-exporter: /dev/kvm: {REFUSED}\n")
