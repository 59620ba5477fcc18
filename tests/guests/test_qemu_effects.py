"""What a stock kernel does when a feature is lost or gained under it: judged by KVM's MSRs and its log.

Each test shows a row of kvm_exporter/kvm/outcomes.py, and that ``compare`` says so. Source of the MSRs' numbers and
bits: the kernel's Documentation/virt/kvm/x86/msr.rst.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.guests.inside import Msrs, msrs, stale_reads
from tests.support.guests.serial import Shell
from tests.support.guests.twolevel import Guest, Hypervisor, Laboratory

pytestmark = pytest.mark.kernel

ASYNC_PF, STEAL_TIME, ASYNC_PF_INT = 0x4B564D02, 0x4B564D03, 0x4B564D06
"""MSR_KVM_ASYNC_PF_EN, MSR_KVM_STEAL_TIME and MSR_KVM_ASYNC_PF_INT."""

ENABLED = 1
"""Bit 0 of the first: the kernel has enabled asynchronous page faults on that CPU."""

CALLBACK_VECTOR = 0xF3
"""HYPERVISOR_CALLBACK_VECTOR, which the second holds."""


def dump(shell: Shell, name: str) -> None:
    """Dump the guest's leaves to a file; again, if the exporter is killed by what the guest has lost."""
    shell.run(f"until kvm-exporter dump >/tmp/{name}; do :; done")


def compared(shell: Shell, before: str, after: str) -> dict[str, Any]:
    """Return what ``compare`` says of two dumps."""
    verdict: dict[str, Any] = json.loads(
        shell.run(f"kvm-exporter compare --format=json /tmp/{before} /tmp/{after}", (0, 1))
    )
    return verdict


def moved(guest: Guest, cpu: str) -> dict[str, Any]:
    """Move a guest, and return what ``compare`` says of a dump before and one after."""
    dump(guest.shell, "before")
    guest.move(cpu)
    dump(guest.shell, "after")
    return compared(guest.shell, "before", "after")


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


@pytest.mark.slow
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
    [reason] = compared["reasons"]
    assert (compared["compatible"], reason["weight"]) == (False, "incompatible")
    assert reason["what"] == "contradictory: async_pf_int (eax bit 14) without async_pf (eax bit 4)"


ROUNDS = 100
"""So often each CPU reads a page that the other one takes away."""

ATTEMPTS = 50

AREA = ~0x3F
"""The bits of MSR_KVM_STEAL_TIME that are the address of struct kvm_steal_time."""

PREEMPTED = 16
"""The offset of a byte in it, whose bit 0 KVM sets while the vCPU is preempted."""

BUSY = "for mask in 1 2; do taskset $mask sh -c 'while :; do :; done' & echo $! >>/tmp/busy; done"
IDLE = "kill $(cat /tmp/busy) && rm /tmp/busy"

ARRIVALS = {
    "as it was": "host",
    "flushes and IPIs lost": "host,-kvm-pv-tlb-flush,-kvm-pv-ipi",
    "steal time lost": "host,-kvm-steal-time",
    "back": "host",
}
"""Where the guest moves, one after the other."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A guest after a move for which it was stopped while both of its vCPUs were preempted."""

    #: In how many of ROUNDS each CPU could read a page that was taken away.
    stale: tuple[int, int]
    steal_time: Sequence[int]
    preempted: Sequence[int]
    compared: Mapping[str, Any]


def preempted(guest: Guest, areas: Sequence[int]) -> list[int]:
    """Return the byte that says whether each vCPU is preempted."""
    return [guest.monitor.byte(area + PREEMPTED) for area in areas]


def stop_while_preempted(guest: Guest, areas: Sequence[int]) -> None:
    """Stop a guest whose vCPUs take turns, so that KVM shows both as preempted: nearly always the first time."""
    for _ in range(ATTEMPTS):
        guest.monitor.run("stop")
        if all(flags & 1 for flags in preempted(guest, areas)):
            return
        guest.monitor.run("cont")
    pytest.fail(f"the guest was stopped {ATTEMPTS} times, and never while both vCPUs were preempted")


def arrive(guest: Guest, cpu: str, areas: Sequence[int]) -> Arrival:
    """Move a guest that was stopped while its vCPUs were preempted, and count what it reads there."""
    guest.shell.run(BUSY)
    guest.share_a_processor()
    stop_while_preempted(guest, areas)
    guest.move(cpu)
    guest.shell.run(IDLE)
    stale = stale_reads(guest.shell, 0, ROUNDS), stale_reads(guest.shell, 1, ROUNDS)
    steal_time = [values[STEAL_TIME] for _, values in sorted(msrs(guest.shell).items())]
    seen = preempted(guest, areas)
    dump(guest.shell, "arrived")
    return Arrival(stale, steal_time, seen, compared(guest.shell, "booted", "arrived"))


@pytest.mark.slow
def test_steal_time_lost_under_contention_breaks_memory_protection(
    laboratory: Laboratory, figure: Callable[[str], None]
) -> None:
    """A vCPU that was preempted when the guest was stopped is left out of each flush of TLBs until steal time is back.

    Without pv_tlb_flush and pv_send_ipi, and with nothing lost, no page can be read that was taken away.
    """

    def experiment(hypervisor: Hypervisor) -> dict[str, Arrival]:
        with hypervisor.guest("host") as guest:
            dump(guest.shell, "booted")
            areas = [values[STEAL_TIME] & AREA for _, values in sorted(msrs(guest.shell).items())]
            return {name: arrive(guest, cpu, areas) for name, cpu in ARRIVALS.items()}

    arrivals = laboratory.attempt(experiment, processors=2)
    for name, arrival in arrivals.items():
        figure(f"{name}: stale reads in {arrival.stale[0]} and {arrival.stale[1]} of {ROUNDS} rounds")
    lost = arrivals.pop("steal time lost")
    assert all(lost.stale)
    assert lost.steal_time == [0, 0]
    assert all(flags & 1 for flags in lost.preempted)
    assert effects(lost) == {("steal_time", "incompatible", "corrupts")}
    for arrival in arrivals.values():
        assert arrival.stale == (0, 0)
        assert all(arrival.steal_time)
    assert effects(arrivals["as it was"]) == effects(arrivals["back"]) == set()
    assert effects(arrivals["flushes and IPIs lost"]) == {
        ("pv_tlb_flush", "warning", "harmless"),
        ("pv_send_ipi", "warning", "harmless"),
    }


def effects(arrival: Arrival) -> set[tuple[str, str, str]]:
    """Return the features of each reason of ``compare``, with weight and severity."""
    return {(reason["feature"], reason["weight"], reason["severity"]) for reason in arrival.compared["reasons"]}
