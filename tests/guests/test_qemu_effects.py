"""What a stock kernel does when a feature is lost or gained under it: judged by KVM's MSRs and its log.

Each test shows a row of kvm_exporter/kvm/outcomes.py, and that ``compare`` says so. Source of the MSRs' numbers and
bits: the kernel's Documentation/virt/kvm/x86/msr.rst.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.guests.inside import Msrs, msrs
from tests.support.guests.serial import Shell
from tests.support.guests.twolevel import Guest, Hypervisor, Laboratory

pytestmark = pytest.mark.kernel

ASYNC_PF, ASYNC_PF_INT = 0x02, 0x06
"""The last bytes of MSR_KVM_ASYNC_PF_EN and MSR_KVM_ASYNC_PF_INT."""

ENABLED = 1
"""Bit 0 of the first: the kernel has enabled asynchronous page faults on that CPU."""

CALLBACK_VECTOR = 0xF3
"""HYPERVISOR_CALLBACK_VECTOR, which the second holds."""


def moved(guest: Guest, cpu: str) -> dict[str, Any]:
    """Move a guest, and return what ``compare`` says of a dump before and one after."""
    shell = guest.shell
    shell.run("kvm-exporter dump >/tmp/before")
    guest.move(cpu)
    shell.run("kvm-exporter dump >/tmp/after")
    verdict = shell.run("kvm-exporter compare --format=json /tmp/before /tmp/after", (0, 1))
    compared: dict[str, Any] = json.loads(verdict)
    return compared


def replug(shell: Shell) -> str:
    """Take the second CPU offline and online again, and return what the kernel logs meanwhile."""
    shell.run("dmesg -c >/dev/null")
    for online in (0, 1):
        shell.run(f"echo {online} >/sys/devices/system/cpu/cpu1/online")
    return shell.run("dmesg")


@dataclass(frozen=True, slots=True)
class Gain:
    """async_pf_int comes under a running kernel, and then a CPU comes online."""

    control: str
    compared: dict[str, Any]
    before: Msrs
    after: Msrs
    log: str


def test_async_pf_int_gained_harms_a_cpu_that_comes_online(laboratory: Laboratory) -> None:
    """The CPU has asynchronous page faults enabled, for which the kernel has no handler, and the kernel warns."""

    def experiment(hypervisor: Hypervisor) -> Gain:
        with hypervisor.guest("host,-kvm-asyncpf-int") as guest:
            control = replug(guest.shell)
            compared = moved(guest, "host")
            before = msrs(guest.shell)
            log = replug(guest.shell)
            return Gain(control, compared, before, msrs(guest.shell), log)

    seen = laboratory.attempt(experiment)
    assert "kvm_guest_cpu_init" not in seen.control
    for cpu in (0, 1):
        assert seen.before[cpu][ASYNC_PF] == 0
    assert seen.after[0] == seen.before[0]
    assert seen.after[1][ASYNC_PF] & ENABLED
    assert seen.after[1][ASYNC_PF_INT] == CALLBACK_VECTOR
    assert re.search(r"WARNING: CPU: 1 .*kvm_guest_cpu_init", seen.log)
    [reason] = seen.compared["reasons"]
    assert (reason["feature"], reason["weight"], reason["severity"]) == ("async_pf_int", "warning", "stalls")
    assert "add no CPU" in reason["action"]


@pytest.mark.slow
def test_async_pf_int_without_async_pf_is_lost_between_equal_hosts(laboratory: Laboratory) -> None:
    """Linux enables asynchronous page faults on bit 14 alone, and QEMU carries them over on bit 4."""

    def experiment(hypervisor: Hypervisor) -> tuple[Msrs, dict[str, Any], Msrs]:
        with hypervisor.guest("host,-kvm-asyncpf") as guest:
            before = msrs(guest.shell)
            compared = moved(guest, "host,-kvm-asyncpf")
            return before, compared, msrs(guest.shell)

    before, compared, after = laboratory.attempt(experiment)
    for cpu in (0, 1):
        assert before[cpu][ASYNC_PF] & ENABLED
        assert after[cpu][ASYNC_PF] == 0
    assert (compared["compatible"], compared["reasons"]) == (True, [])
