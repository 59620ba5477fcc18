"""kvm_exporter.collector.in_use: which features the kernel is known to use or not to use, and when that is unknown."""

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.collector.boot import Boot, BootReferenceKeeper
from kvm_exporter.collector.guest import ALWAYS_THERE, Evidence, read_evidence
from kvm_exporter.collector.in_use import ENABLEMENT_RULES, FORBIDDING_PARAMETERS, features_in_use, kvmclock_is_current
from kvm_exporter.collector.observer import Observer
from kvm_exporter.collector.sweep import CpuSelection
from kvm_exporter.kvm.features import FEATURES, feature_named
from kvm_exporter.kvm.leaves import Kvm, Leaves, SignatureLeaf
from lab.live import live_machine
from lab.readers import BARE_METAL, Machine, guest, kvm_rows, reader, sample_of
from tests.support.rooms.kernel import (
    AVAILABLE,
    COMMAND_LINE,
    CPU_INFO,
    CURRENT,
    IDLE_DRIVER,
    INTERRUPTS,
    STAT,
    Content,
    kernel,
)

ALL = guest(0x01007EFB)
NOTHING = guest(0)
ONLY_OLD_CLOCK = guest(0x0100_0001)
ONLY_NEW_CLOCK = guest(0x0100_0008)
NO_ASYNC_PF = guest(0x01007EEB)

BESIDE_HYPER_V = Leaves(
    hypervisor_bit=True,
    hypervisors=(SignatureLeaf(0x4000_0000, b"Microsoft Hv", 0x4000_0005), *guest(0, base=0x4000_0100).hypervisors),
    kvm=Kvm(0x4000_0100, 0x01007EFB, 0),
)
VMWARE = Leaves(hypervisor_bit=True, hypervisors=(SignatureLeaf(0x4000_0000, b"VMwareVMware", 0x4000_0010),))
NO_HYPERVISOR = Leaves(hypervisor_bit=False)

SILENT: Mapping[str, Content] = {
    AVAILABLE: "tsc hpet acpi_pm \n",
    CURRENT: "tsc\n",
    COMMAND_LINE: "ro quiet\n",
    STAT: "cpu  60061 0 21786 491484 1013 0 194 0 0 0\n",
    INTERRUPTS: "           CPU0\nHYP:          0   Hypervisor callback interrupts\n",
    IDLE_DRIVER: "none\n",
    CPU_INFO: "processor : 0\nflags : fpu hypervisor\n",
}
"""A kernel without evidence for any feature of KVM."""

KVM_CLOCK = {AVAILABLE: "kvm-clock tsc \n"}
STOLEN = {STAT: "cpu  60061 0 21786 491484 1013 0 194 1 0 0\n"}
CALLED_BACK = {INTERRUPTS: "     CPU0 CPU1\nHYP:     0     1   Hypervisor callback interrupts\n"}
SPINLOCKS = {CPU_INFO: "processor : 0\nflags : fpu hypervisor pvunlock\n"}
HALTPOLL = {IDLE_DRIVER: "haltpoll\n"}


def booted_with(*words: str) -> dict[str, Content]:
    """Return the file of a kernel's command line with these words."""
    return {COMMAND_LINE: " ".join(("ro", *words, "quiet\n"))}


def used(root: Path, changes: Mapping[str, Content], boot: Leaves) -> dict[str, bool]:
    """Return what is known for a kernel with such files, by feature name."""
    evidence = read_evidence(kernel(root, {**SILENT, **changes}))
    return {feature.name: known for feature, known in features_in_use(evidence, boot).items()}


NO_ASYNC_PAGE_FAULTS = {"async_pf": False, "async_pf_vmexit": False, "async_pf_int": False}


@pytest.mark.parametrize(
    ("changes", "boot", "expected"),
    [
        ({}, ALL, {}),
        (KVM_CLOCK, ALL, {"clocksource2": True}),
        (KVM_CLOCK, ONLY_NEW_CLOCK, {"clocksource2": True}),
        (KVM_CLOCK, ONLY_OLD_CLOCK, {"clocksource": True}),
        (KVM_CLOCK, NOTHING, {"clocksource2": True}),
        ({AVAILABLE: "kvm-clock-2 tsc-kvm-clock \n"}, ALL, {}),
        ({AVAILABLE: None}, ALL, {}),
        (STOLEN, ALL, {"steal_time": True}),
        (STOLEN, NOTHING, {"steal_time": True}),
        ({STAT: None}, ALL, {}),
        (CALLED_BACK, ALL, {"async_pf": True, "async_pf_int": True}),
        (CALLED_BACK, NO_ASYNC_PF, {"async_pf_int": True}),
        (CALLED_BACK, BESIDE_HYPER_V, {}),
        ({INTERRUPTS: None}, ALL, {}),
        (SPINLOCKS, ALL, {"pv_unhalt": True}),
        ({CPU_INFO: None}, ALL, {}),
        (HALTPOLL, ALL, {"poll_control": True}),
        (HALTPOLL, guest(0x01006EFB), {}),
        ({IDLE_DRIVER: "intel_idle\n"}, ALL, {}),
        ({IDLE_DRIVER: None}, ALL, {}),
        (booted_with("no-kvmclock"), ALL, {"clocksource": False, "clocksource2": False}),
        (booted_with("no-kvmapf"), ALL, NO_ASYNC_PAGE_FAULTS),
        (booted_with("nopvspin"), ALL, {"pv_unhalt": False}),
        (booted_with("nopvspin"), NOTHING, {"pv_unhalt": False}),
        (booted_with("no_kvmclock"), ALL, {"clocksource": False, "clocksource2": False}),
        (booted_with("nopv"), ALL, dict.fromkeys(FORBIDDING_PARAMETERS["nopv"], False)),
        (
            {**HALTPOLL, **booted_with("nopv")},
            ALL,
            {**dict.fromkeys(FORBIDDING_PARAMETERS["nopv"], False), "poll_control": True},
        ),
        (booted_with("no-steal-acc", "no-kvmclock-vsyscall", "clocksource=tsc"), ALL, {}),
        (booted_with("--", "no-kvmclock", "no-kvmapf", "nopvspin"), ALL, {}),
        (booted_with("xno-kvmclock", "nopvspinx"), ALL, {}),
        ({COMMAND_LINE: None}, ALL, {}),
        ({COMMAND_LINE: b"\xff\xfe\0 nopvspin\n"}, ALL, {"pv_unhalt": False}),
        ({**SPINLOCKS, **booted_with("nopvspin")}, ALL, {"pv_unhalt": True}),
        (
            {**CALLED_BACK, **booted_with("no-kvmapf")},
            ALL,
            {"async_pf": True, "async_pf_vmexit": False, "async_pf_int": True},
        ),
        ({**CALLED_BACK, **STOLEN, **HALTPOLL}, BESIDE_HYPER_V, {"steal_time": True, "poll_control": True}),
    ],
    ids=[
        *("silent", "kvm-clock", "new clock", "old clock", "no clock is offered", "other clocks", "no clocks"),
        *("stolen", "stolen unannounced", "no stat", "called back", "called back without bit 4", "Hyper-V calls back"),
        *("no interrupts", "spinlocks", "no cpuinfo", "haltpoll", "haltpoll by force", "another driver", "no driver"),
        *(
            "no-kvmclock",
            "no-kvmapf",
            "nopvspin",
            "nopvspin in vain",
            "no_kvmclock",
            "nopv",
            "haltpoll without the rest",
            "other switches",
            "words for init",
        ),
        *("words that look alike", "no command line", "odd command line", "in use against a switch"),
        *("called back against a switch", "more beside Hyper-V"),
    ],
)
def test_what_is_known(
    tmp_path: Path, changes: Mapping[str, Content], boot: Leaves, expected: Mapping[str, bool]
) -> None:
    """A feature is True with evidence of its use, False if a switch forbids it, and absent otherwise."""
    assert used(tmp_path, changes, boot) == expected


EVERY_SIGN = {**KVM_CLOCK, **STOLEN, **CALLED_BACK, **SPINLOCKS, **HALTPOLL}


def test_a_guest_that_uses_it_all(tmp_path: Path) -> None:
    """Features are ordered by register and bit."""
    assert list(used(tmp_path, EVERY_SIGN, ALL)) == [
        "clocksource2",
        "async_pf",
        "steal_time",
        "pv_unhalt",
        "poll_control",
        "async_pf_int",
    ]


@pytest.mark.parametrize("boot", [VMWARE, NO_HYPERVISOR, Leaves(hypervisor_bit=True)], ids=["VMware", "none", "hidden"])
@pytest.mark.parametrize("changes", [EVERY_SIGN, booted_with(*FORBIDDING_PARAMETERS)], ids=["signs", "switches"])
def test_without_kvm_nothing_is_said(tmp_path: Path, boot: Leaves, changes: Mapping[str, Content]) -> None:
    """Without KVM no feature is known: the evidence comes from other hypervisors."""
    assert used(tmp_path, changes, boot) == {}


def test_no_evidence_says_nothing() -> None:
    """Without evidence no feature is reported, not even as unused."""
    assert features_in_use(Evidence(), ALL) == {}


def test_every_rule_names_a_feature() -> None:
    """Every rule and every switch refers to features of the table."""
    named = {sign.feature for sign in ENABLEMENT_RULES} | {
        name for names in FORBIDDING_PARAMETERS.values() for name in names
    }
    assert named <= {feature.name for feature in FEATURES}


@given(
    st.builds(
        Evidence,
        st.none() | st.frozensets(st.sampled_from(["kvm-clock", "tsc"])),
        st.none() | st.sampled_from(["kvm-clock", "tsc"]),
        st.none() | st.frozensets(st.sampled_from([*FORBIDDING_PARAMETERS, "quiet"])),
        st.none() | st.integers(0, 3),
        st.none() | st.integers(0, 3),
        st.none() | st.sampled_from(["haltpoll", "none"]),
        st.none() | st.frozensets(st.sampled_from(["pvunlock", "fpu"])),
    ),
    st.integers(0, 2**32 - 1),
)
def test_each_answer_has_its_evidence(evidence: Evidence, eax: int) -> None:
    """Each True needs its evidence, and each False needs a switch on the command line."""
    boot = guest(eax)
    for feature, known in features_in_use(evidence, boot).items():
        if not known:
            switches = evidence.command_line or frozenset()
            assert any(
                feature.name in FORBIDDING_PARAMETERS[switch] for switch in switches & FORBIDDING_PARAMETERS.keys()
            )
        else:
            silenced = Evidence(command_line=evidence.command_line, current_clocksource=evidence.current_clocksource)
            assert features_in_use(silenced, boot).get(feature) is not True


@pytest.mark.parametrize(
    ("current", "expected"), [("kvm-clock\n", True), ("tsc\n", False), ("hpet\n", False), ("\n", None), (None, None)]
)
def test_where_the_time_comes_from(tmp_path: Path, current: Content, expected: bool | None) -> None:  # noqa: FBT001 - a table
    """The result says whether kvm-clock is the current clocksource, and is None if that is unknown."""
    assert kvmclock_is_current(read_evidence(kernel(tmp_path, {CURRENT: current}))) is expected


def test_evidence_is_judged_by_what_was_offered_at_boot(tmp_path: Path) -> None:
    """The leaves at boot decide: a bit that is lost later does not change what the kernel has enabled."""
    machine = live_machine(0x01007EFB)
    observer = Observer(
        machine,
        CpuSelection(),
        BootReferenceKeeper(None, Boot("boot", 0.0, 0.0)),
        host=False,
        root=kernel(tmp_path, EVERY_SIGN),
    )
    before = observer.observe(None)
    machine.cpus[0] = reader(kvm_rows(0x0000_0001))
    after = observer.observe(before.sample)
    assert after.sample.common == guest(1)
    assert after.in_use == before.in_use
    assert after.in_use[feature_named("clocksource2")] is True
    assert feature_named("clocksource") not in after.in_use
    machine.cpus[0] = reader(BARE_METAL)
    assert observer.observe(after.sample).in_use == before.in_use


def test_without_a_reference_it_is_judged_by_what_is_offered_now(tmp_path: Path) -> None:
    """Without a reference the current leaves are used, as in a single run."""
    machine = Machine({0: reader(kvm_rows(0x0000_0001))})
    observer = Observer(machine, CpuSelection(), None, host=False, root=kernel(tmp_path, {**SILENT, **KVM_CLOCK}))
    assert observer.observe(None).in_use == {feature_named("clocksource"): True}
    assert observer.observe(sample_of({0: ALL})).in_use == {feature_named("clocksource"): True}


def test_the_guest_collector_is_there(tmp_path: Path) -> None:
    """An observation includes the guest collector's success."""
    observer = Observer(live_machine(1), CpuSelection(), None, host=False, root=kernel(tmp_path, SILENT))
    found = observer.observe(None)
    assert list(found.collectors) == ["guest"]
    assert found.collectors["guest"].success


def test_what_cannot_be_read_is_not_collected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A restricted /proc or /sys is a failed collector; each file is logged once, and once more when it is back."""
    caplog.set_level(logging.INFO)
    observer = Observer(live_machine(1), CpuSelection(), None, host=False, root=tmp_path)
    for _ in range(3):
        found = observer.observe(None)
        assert not found.collectors["guest"].success
        assert (found.in_use, found.kvmclock_is_current) == ({}, None)
    assert caplog.messages == [
        f"/{name} cannot be read, so what the guest kernel uses is not known completely" for name in ALWAYS_THERE
    ]
    caplog.clear()
    kernel(tmp_path, SILENT)
    assert observer.observe(None).collectors["guest"].success
    assert caplog.messages == [f"/{name} can be read again" for name in ALWAYS_THERE]
