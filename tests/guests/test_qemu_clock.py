"""The pvclock page in stock Linux guests: what it says, and whether the vDSO can tell the time by it.

The judge is the guest's own vDSO: in a process that may not make the system call clock_gettime(2), it alone answers.
"""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.guests.inside import show
from tests.support.guests.serial import Shell
from tests.support.guests.twolevel import Hypervisor, Laboratory

pytestmark = pytest.mark.kernel

CLOCKSOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"

WITHOUT_BIT = "host,-kvmclock-stable-bit"

JUDGE = """
import ctypes, time
libc = ctypes.CDLL(None, use_errno=True)
now = (ctypes.c_long * 2)()
def nanoseconds(read, *arguments):
    start = time.monotonic_ns()
    for _ in range(2000):
        read(*arguments)
    return (time.monotonic_ns() - start) / 2000
def least(*call):
    return min(nanoseconds(*call) for _ in range(7))
nothing = least(libc.llabs, 1, now)
by_vdso = least(libc.clock_gettime, 1, now) - nothing
by_system_call = least(libc.syscall, 228, 1, now) - nothing
# BPF_LD nr; BPF_JEQ clock_gettime; BPF_RET SECCOMP_RET_ERRNO | EPERM; BPF_RET SECCOMP_RET_ALLOW
steps = b"".join(
    code.to_bytes(2, "little") + bytes([yes, no]) + value.to_bytes(4, "little")
    for code, yes, no, value in ((0x20, 0, 0, 0), (0x15, 0, 1, 228), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000))
)
code = ctypes.create_string_buffer(steps)
program = (ctypes.c_void_p * 2)(4, ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0
print(libc.clock_gettime(1, now) == 0, by_vdso, by_system_call)
"""
"""Prints whether the vDSO answers without a system call, and the nanoseconds of both ways, without Python's own."""


@dataclass(frozen=True, slots=True)
class Clock:
    """What the exporter shows of a guest's clock, and what the guest's vDSO does."""

    shown: dict[str, Any]
    by_vdso: bool
    cost: str

    @property
    def stable(self) -> bool:
        """What the page says."""
        return bool(self.shown["clock"]["stable"])

    @property
    def findings(self) -> set[str]:
        """The kinds of what is wrong or unknown."""
        return {finding["kind"] for finding in self.shown["findings"]}


def look(shell: Shell) -> Clock:
    """The clock of a guest."""
    by_vdso, vdso, system_call = shell.run(f"python3 -c {shlex.quote(JUDGE)}").split()
    ratio = f"clock_gettime {float(vdso):.0f} ns, by system call {float(system_call):.0f} ns"
    return Clock(show(shell), by_vdso == "True", ratio)


@contextmanager
def clocksource(hypervisor: Hypervisor, name: str) -> Iterator[None]:
    """The hypervisor has another clocksource in a block."""
    before = hypervisor.shell.run(f"cat {CLOCKSOURCE}").strip()
    set_clocksource(hypervisor.shell, name)
    try:
        yield
    finally:
        set_clocksource(hypervisor.shell, before)


def set_clocksource(shell: Shell, name: str) -> None:
    """Change a system's clocksource."""
    shell.run(f"echo {name} > {CLOCKSOURCE} && grep -qx {name} {CLOCKSOURCE}")


def report(place: str, clock: Clock) -> Clock:
    """Print the figures of a clock, and return it."""
    sys.stdout.write(f"\n{place}: {'stable' if clock.stable else 'not stable'}, {clock.cost}\n")
    return clock


def clocks(laboratory: Laboratory, source: str, cpu: str, *moves: str) -> Sequence[Clock]:
    """The clock of a guest that boots on a hypervisor with this clocksource, and after each move."""

    def experiment(hypervisor: Hypervisor) -> list[Clock]:
        with clocksource(hypervisor, source), hypervisor.guest(cpu) as guest:
            found = [look(guest.shell)]
            for there in moves:
                guest.move(there)
                found.append(look(guest.shell))
            return found

    found = laboratory.attempt(experiment)
    return [report(f"{source}, {place}", clock) for place, clock in zip((cpu, *moves), found, strict=True)]


@pytest.mark.slow
def test_a_host_that_gives_up_its_tsc(laboratory: Laboratory) -> None:
    """While the host's clocksource is tsc, the page says stable, and the vDSO tells the time; then neither does."""

    def experiment(hypervisor: Hypervisor) -> tuple[Clock, Clock]:
        with clocksource(hypervisor, "tsc"), hypervisor.guest("host") as guest:
            before = look(guest.shell)
            set_clocksource(hypervisor.shell, "hpet")
            guest.shell.run("until kvm-exporter show --format=json | grep -q '\"stable\": false'; do sleep 1; done")
            return before, look(guest.shell)

    before, after = laboratory.attempt(experiment)
    for place, clock in (("tsc", before), ("hpet", after)):
        report(place, clock)
    assert (before.stable, before.by_vdso, "clock_unstable" in before.findings) == (True, True, False)
    assert (after.stable, after.by_vdso, "clock_unstable" in after.findings) == (False, False, True)


@pytest.mark.slow
def test_a_guest_that_boots_on_a_host_without_tsc(laboratory: Laboratory) -> None:
    """The page is there, and says from the start that the clock is not stable."""
    [clock] = clocks(laboratory, "hpet", "host")
    assert (clock.stable, clock.by_vdso) == (False, False)


@pytest.mark.slow
def test_a_bit_that_is_lost_later_changes_nothing(laboratory: Laboratory) -> None:
    """The kernel has read bit 24 when it booted; that it is lost at a move has no effect on the clock."""
    for clock in clocks(laboratory, "tsc", "host", WITHOUT_BIT):
        assert (clock.stable, clock.by_vdso) == (True, True)


@pytest.mark.slow
def test_a_bit_that_was_missing_at_boot_is_missed_until_reboot(laboratory: Laboratory) -> None:
    """Without bit 24 at boot the kernel does not use the flag, whatever the page says and a later host offers."""
    for clock in clocks(laboratory, "tsc", WITHOUT_BIT, "host"):
        assert (clock.stable, clock.by_vdso) == (True, False)
