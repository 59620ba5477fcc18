"""Stock Linux guests under QEMU's own masks: what the exporter shows in each is what the mask asked for.

Which features are in use is judged for each by what the kernel did at boot, as JUDGES says.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.guests.images import guest_image
from tests.support.guests.inside import KernelState, kernel_state, show
from tests.support.guests.qemu import Machine
from tests.support.guests.serial import Shell
from tests.support.guests.twolevel import TWO_CPUS, Hypervisor, Laboratory
from tests.support.slow import slow_but

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
    """What a guest's kernel has enabled, by its own account."""

    state: KernelState
    log: str

    def has_set(self, msr: int, mask: int = 1) -> bool:
        """Whether bits of an MSR are set on every CPU; a CPU where that differs fails the test."""
        [answer] = {values[msr] & mask == mask for values in self.state.msrs.values()}
        return answer

    def logged(self, line: str) -> bool:
        """Whether the kernel logged a line at boot."""
        return line in self.log


JUDGES: dict[str, Callable[[Kernel], bool]] = {
    # The old and the new MSRs are one register to KVM: the log tells them apart.
    "clocksource": lambda kernel: kernel.logged("kvm-clock: Using msrs 12 and 11"),
    "nop_io_delay": lambda kernel: kernel.state.io_delay,
    "clocksource2": lambda kernel: kernel.logged("kvm-clock: Using msrs 4b564d01 and") and kernel.has_set(0x4B564D01),
    "async_pf": lambda kernel: kernel.has_set(0x4B564D02),
    "steal_time": lambda kernel: kernel.has_set(0x4B564D03),
    "pv_eoi": lambda kernel: kernel.has_set(0x4B564D04),
    "pv_unhalt": lambda kernel: kernel.logged("kvm-guest: PV spinlocks enabled"),
    "pv_tlb_flush": lambda kernel: kernel.logged("kvm-guest: KVM setup pv remote TLB flush"),
    "async_pf_vmexit": lambda kernel: kernel.has_set(0x4B564D02, 0b101),
    "pv_send_ipi": lambda kernel: kernel.logged("kvm-guest: setup PV IPIs"),
    # The guest switches the host's polling off.
    "poll_control": lambda kernel: not kernel.has_set(0x4B564D05),
    "pv_sched_yield": lambda kernel: kernel.logged("kvm-guest: setup PV sched yield"),
    "async_pf_int": lambda kernel: kernel.has_set(0x4B564D02, 0b1001) and kernel.has_set(0x4B564D06),
    "clocksource_stable_bit": lambda kernel: kernel.state.stable_bit,
}
"""How a feature shows that the kernel has enabled it: in KVM's MSR; without one, in the kernel's log; without a line
there, in a variable of the kernel (nop_io_delay, clocksource_stable_bit)."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the exporter shows in a guest, and what its kernel has enabled."""

    shown: dict[str, Any]
    kernel: Kernel | None

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
        """Whether the kernel has enabled each feature that is offered, as the exporter says."""
        return {feature["name"]: feature["in_use"] for feature in self.shown["features"] if feature["offered"]}


def observe(shell: Shell) -> Observation:
    """Everything that is wanted of a guest."""
    shown = show(shell)
    if not shown["kvm"]:
        return Observation(shown, None)
    return Observation(shown, Kernel(kernel_state(shell), shell.run("dmesg")))


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


def observe_under_kvm(
    laboratory: Laboratory, cpu: str, switches: str = "", cpus: Sequence[str] = TWO_CPUS
) -> Observation:
    """The observation of a guest with QEMU's ``-cpu``, boot switches and QEMU's flags for its CPUs."""

    def experiment(hypervisor: Hypervisor) -> Observation:
        with hypervisor.guest(cpu, cpus, switches) as guest:
            return observe(guest.shell)

    return laboratory.attempt(experiment)


@pytest.mark.kernel
@pytest.mark.parametrize("cpu", slow_but([USUAL], OFFERS))
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
    assert_in_use_is_what_the_kernel_did(observation)


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize(
    ("cpu", "cpus", "switches"),
    [
        ("host", ("-smp", "1"), ""),
        ("host,+kvm-hint-dedicated", TWO_CPUS, ""),
        ("host,-kvm-asyncpf-int,-kvm-steal-time", TWO_CPUS, ""),
        # QEMU's default features.
        ("EPYC,check=off", TWO_CPUS, ""),
        ("host", TWO_CPUS, "no-kvmapf=x nopvspin=1"),
        ("host", TWO_CPUS, "no_kvmclock=x"),
    ],
)
def test_guest_uses_what_the_kernel_has_enabled(
    laboratory: Laboratory, cpu: str, cpus: Sequence[str], switches: str
) -> None:
    """With other masks, numbers of CPUs and boot switches; the usual mask is judged in every run."""
    assert_in_use_is_what_the_kernel_did(observe_under_kvm(laboratory, cpu, switches, cpus))


@pytest.mark.kernel
@pytest.mark.slow
def test_guest_that_may_not_use_kvm_uses_nothing(laboratory: Laboratory) -> None:
    """With the boot parameter nopv each feature that is offered is known to be unused, and the kernel enabled none."""
    observation = observe_under_kvm(laboratory, "host", "nopv")
    assert observation.kernel is not None
    assert not any(judge(observation.kernel) for judge in JUDGES.values())
    assert observation.in_use == dict.fromkeys(observation.in_use, False)


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


def assert_in_use_is_what_the_kernel_did(observation: Observation) -> None:
    """The answer for each feature that is offered is its judge's.

    It may be unknown without kvm-clock: nothing else shows that KVM's guest code ran.
    """
    assert observation.kernel is not None
    judged: dict[str, bool | None] = {name: judge(observation.kernel) for name, judge in JUDGES.items()}
    if not observation.kernel.logged("kvm-clock: Using msrs"):
        judged |= {name: None for name, answer in observation.in_use.items() if answer is None}
    assert observation.in_use == {name: judged.get(name) for name in observation.in_use}
