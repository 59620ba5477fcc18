"""Stock Linux guests under QEMU's own masks: what the exporter shows in each is what the mask asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.guests.images import guest_image
from tests.support.guests.inside import read, show
from tests.support.guests.qemu import Machine
from tests.support.guests.serial import Shell
from tests.support.guests.twolevel import Hypervisor, Laboratory

CLOCKSOURCES = "/sys/devices/system/clocksource/clocksource0"

KVM = ("KVMKVMKVM", "0x40000000")
"""Signature and base where KVM is alone."""

OFFERS: dict[str, tuple[list[tuple[str, str]], tuple[str, str]]] = {
    "host": ([KVM], ("0x01007afb", "0x00000000")),
    "host,-kvmclock,-kvm-asyncpf": ([KVM], ("0x01007ae2", "0x00000000")),
    "host,-kvm-steal-time,-kvm-pv-unhalt,+kvm-hint-dedicated": ([KVM], ("0x01007a5b", "0x00000001")),
    "host,hv-relaxed,hv-vapic,hv-time": (
        [("Microsoft Hv", "0x40000000"), ("KVMKVMKVM", "0x40000100")],
        ("0x01007afb", "0x00000000"),
    ),
}
"""For QEMU's masks, the signatures with their bases, and EAX and EDX of the feature leaf."""

INCONSISTENT = {
    "host,-kvmclock,-kvm-asyncpf": {"async_pf_int_without_async_pf", "stable_bit_without_clock"},
    "host,-kvm-steal-time,-kvm-pv-unhalt,+kvm-hint-dedicated": {
        "preemption_without_steal_time",
        "preemption_beside_hint",
    },
}
"""The rules of kvm/consistency.py that a mask breaks; other masks break none."""

USUAL = "host,-kvm-steal-time,-kvm-pv-unhalt,+kvm-hint-dedicated"
"""The mask that make test tries: bits of both registers, some on and some off."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a guest's kernel says of itself."""

    available_clocksources: frozenset[str]
    current_clocksource: str
    command_line: str
    hypervisor_interrupts: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What the exporter shows in a guest, and what the kernel says beside it."""

    shown: dict[str, Any]
    kernel: Kernel

    @property
    def words(self) -> tuple[str | None, str | None]:
        """EAX and EDX of the feature leaf."""
        return self.shown["eax"], self.shown["edx"]

    @property
    def signatures(self) -> list[tuple[str, str]]:
        """Every hypervisor's signature with its base."""
        return [(found["signature"], found["base"]) for found in self.shown["hypervisors"]]

    @property
    def in_use(self) -> dict[str, bool | None]:
        """What the exporter says that the kernel has enabled, by the feature's name."""
        return {feature["name"]: feature["in_use"] for feature in self.shown["features"]}


def observe(shell: Shell) -> Observation:
    """Everything that is wanted of a guest."""
    # There is no such line before a paravirtual interrupt was set up.
    interrupts = shell.run("grep HYP: /proc/interrupts || true").split()
    return Observation(
        show(shell),
        Kernel(
            available_clocksources=frozenset(read(shell, f"{CLOCKSOURCES}/available_clocksource").split()),
            current_clocksource=read(shell, f"{CLOCKSOURCES}/current_clocksource"),
            command_line=read(shell, "/proc/cmdline"),
            hypervisor_interrupts=sum(int(word) for word in interrupts if word.isdecimal()),
        ),
    )


def undone(observation: Observation) -> set[str]:
    """Return the parts of QEMU's mask that the settings undo, of the features that ``-cpu host`` has otherwise."""
    host = [int(word, 16) for word in OFFERS["host"][1]]
    words = dict(zip(("eax", "edx"), host, strict=True))
    parts = set()
    for feature in observation.shown["features"]:
        if feature["offered"] != bool(words[feature["register"]] >> feature["bit"] & 1):
            name, _, state = feature["host_setting"]["qemu"].partition("=")
            parts.add(f"{'-' if state == 'on' else '+'}{name}")
    return parts


def observe_under_kvm(laboratory: Laboratory, cpu: str, switches: str = "") -> Observation:
    """The observation of a guest with QEMU's ``-cpu`` and boot switches."""

    def experiment(hypervisor: Hypervisor) -> Observation:
        with hypervisor.guest(cpu, switches=switches) as guest:
            return observe(guest.shell)

    return laboratory.attempt(experiment)


@pytest.mark.parametrize("cpu", [pytest.param(cpu, marks=() if cpu == USUAL else pytest.mark.slow) for cpu in OFFERS])
def test_guest_is_offered_what_the_mask_leaves(laboratory: Laboratory, cpu: str) -> None:
    """Signatures, base and feature words are the mask's, and each of the two vCPUs was read on itself."""
    signatures, words = OFFERS[cpu]
    observation = observe_under_kvm(laboratory, cpu)
    assert observation.shown["kvm"]
    assert observation.signatures == signatures
    assert observation.shown["base"] == signatures[-1][1]
    assert observation.words == words
    assert {finding["kind"] for finding in observation.shown["findings"]} - {"ok"} == INCONSISTENT.get(cpu, set())
    assert undone(observation) == {part for part in cpu.split(",")[1:] if part[0] in "+-"}
    assert_sampled_on_both_cpus(observation)
    assert_in_use_is_what_the_kernel_says(observation)


@pytest.mark.slow
def test_guest_told_not_to_use_features(laboratory: Laboratory) -> None:
    """Boot switches show as features not in use; what is offered stays the same."""
    observation = observe_under_kvm(laboratory, "host", "no-kvmclock no-kvmapf nopvspin")
    assert observation.words == OFFERS["host"][1]
    assert {"no-kvmclock", "no-kvmapf", "nopvspin"} <= set(observation.kernel.command_line.split())
    assert "kvm-clock" not in observation.kernel.available_clocksources
    for feature in ("clocksource", "clocksource2", "async_pf", "async_pf_int", "pv_unhalt"):
        assert observation.in_use[feature] is False, feature


@pytest.mark.slow
@pytest.mark.parametrize(("cpu", "hypervisor_bit"), [("host,kvm=off", True), ("EPYC,-hypervisor", False)])
def test_guest_that_must_not_see_kvm(laboratory: Laboratory, cpu: str, hypervisor_bit: bool) -> None:  # noqa: FBT001
    """Hidden leaves, and leaves behind a cleared hypervisor bit, are no KVM."""
    observation = observe_under_kvm(laboratory, cpu)
    assert not observation.shown["kvm"]
    assert observation.shown["hypervisor_bit"] == hypervisor_bit
    assert observation.signatures == []
    assert observation.words == (None, None)
    assert_sampled_on_both_cpus(observation)


def test_guest_without_kvm(tmp_path: Path) -> None:
    """An emulated machine shows the emulator's signature, and is not KVM."""
    with Machine(guest_image(tmp_path), 1, "-smp", "2", "-m", "512") as machine:
        shell = Shell(machine.lines[0])
        shell.wait()
        observation = observe(shell)
    assert observation.signatures == [("TCGTCGTCGTCG", "0x40000000")]
    assert not observation.shown["kvm"]
    assert_sampled_on_both_cpus(observation)


def assert_sampled_on_both_cpus(observation: Observation) -> None:
    """Two vCPUs, both read, nothing amiss."""
    cpus = observation.shown["cpus"]
    assert cpus == {"online": 2, "sampled": [0, 1], "retained": [], "skipped": [], "failed": {}}
    assert observation.shown["divergent"] == []


def assert_in_use_is_what_the_kernel_says(observation: Observation) -> None:
    """kvm-clock and page-ready interrupts are in use where /sys and /proc show them; else nothing is said."""
    kernel, in_use = observation.kernel, observation.in_use
    assert in_use["clocksource2"] == ("kvm-clock" in kernel.available_clocksources or None)
    # Hyper-V's callbacks are counted in the same line.
    page_ready = observation.signatures == [KVM] and kernel.hypervisor_interrupts > 0
    assert in_use["async_pf_int"] == (page_ready or None)
