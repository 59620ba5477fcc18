"""kvm_exporter.collector.in_use: which features the kernel has enabled by its own conditions, and what is unknown."""

import logging
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.collector.boot import (
    FILE_NAME,
    Boot,
    BootReference,
    BootReferenceKeeper,
    format_reference,
    read_boot,
)
from kvm_exporter.collector.conditions import CONDITIONS, NOT_DECIDED, Answer, Found, Use
from kvm_exporter.collector.guest import ALWAYS_THERE, Evidence, read_evidence
from kvm_exporter.collector.in_use import SWITCHES, features_in_use, switched_off
from kvm_exporter.collector.observer import Observation, Observer
from kvm_exporter.collector.sweep import CpuSelection
from kvm_exporter.kvm.features import FEATURES, feature_named
from kvm_exporter.kvm.leaves import Kvm, Leaves, SignatureLeaf
from lab.live import live_machine
from lab.readers import BARE_METAL, Machine, guest, kvm_rows, reader, sample_of
from tests.support.rooms.kernel import CURRENT, STAT, Content, kernel

HOST = guest(0x01007AFB)
"""What QEMU's -cpu host offers on Linux 6.1: 13 features."""

EVERY_BIT = guest(0x0103FEFF, 1)
ONLY_OLD_CLOCK = guest(0x0100_0001)

BESIDE_HYPER_V = Leaves(
    hypervisor_bit=True,
    hypervisors=(SignatureLeaf(0x4000_0000, b"Microsoft Hv", 0x4000_0005), *guest(0, base=0x4000_0100).hypervisors),
    kvm=Kvm(0x4000_0100, 0x01007AFB, 0),
)
VMWARE = Leaves(hypervisor_bit=True, hypervisors=(SignatureLeaf(0x4000_0000, b"VMwareVMware", 0x4000_0010),))
NO_HYPERVISOR = Leaves(hypervisor_bit=False)

STOCK = Evidence(
    available_clocksources=frozenset({"kvm-clock", "tsc", "acpi_pm"}),
    current_clocksource="kvm-clock",
    parameters=frozenset({"ro", "quiet"}),
    steal_ticks=0,
    hypervisor_interrupts=0,
    cpuidle_driver="none",
    cpu_flags=frozenset({"fpu", "hypervisor"}),
    possible_cpus=2,
    release="6.1.0-50-cloud-amd64",
    has_pv_spinlocks=True,
)
"""A stock Debian guest with two CPUs, on a host without contention."""

YES = Use(Answer.YES, "offered at boot")
NOT_OFFERED = Use(Answer.NOTHING, "not offered at boot")

ON_HOST = dict.fromkeys((feature.name for feature in FEATURES), NOT_OFFERED) | {
    "clocksource": Use(Answer.NO, "clocksource2 is used instead"),
    "nop_io_delay": YES,
    "clocksource2": YES,
    "async_pf": YES,
    "steal_time": YES,
    "pv_eoi": YES,
    "pv_unhalt": YES,
    "pv_tlb_flush": YES,
    "pv_send_ipi": YES,
    "poll_control": Use(Answer.NO, "haltpoll not loaded"),
    "pv_sched_yield": YES,
    "async_pf_int": YES,
    "clocksource_stable_bit": YES,
}
"""The answers for the stock guest on HOST, as judged by KVM's MSRs and the kernel's log in tests/guests."""

WITHOUT_MSRS = ("pv_unhalt", "pv_tlb_flush", "pv_send_ipi", "pv_sched_yield")
CLOCKS = ("clocksource", "clocksource2", "clocksource_stable_bit")
ASYNC_PF = ("async_pf", "async_pf_int")
BY_CODE = ("nop_io_delay", *ASYNC_PF, "steal_time", "pv_eoi", *WITHOUT_MSRS)
"""What the stock guest enables beside the clock."""


def answers(evidence: Evidence, found: Found, now: Leaves | None = None) -> dict[str, Use]:
    """Return the answers by feature name; what is offered now is what was found, unless it is given."""
    uses = features_in_use(evidence, found, now if now is not None else found.leaves)
    return {feature.name: use for feature, use in uses.items()}


def without(evidence: Evidence, field: str) -> Evidence:
    """Return evidence as if a file could not be read."""
    unread: Any = {field: None}
    return replace(evidence, **unread)


def changed(evidence: Evidence, found: Found, now: Leaves | None = None) -> dict[str, Use]:
    """Return the answers that differ from those for the stock guest on HOST."""
    return {name: use for name, use in answers(evidence, found, now).items() if use != ON_HOST[name]}


def no(reason: str, *names: str) -> dict[str, Use]:
    """The answer "no" for features."""
    return dict.fromkeys(names, Use(Answer.NO, reason))


def unknown(reason: str, *names: str) -> dict[str, Use]:
    """The answer "unknown" for features."""
    return dict.fromkeys(names, Use(Answer.UNKNOWN, reason))


def not_offered(*names: str) -> dict[str, Use]:
    """The answer for features that were not offered at boot."""
    return dict.fromkeys(names, NOT_OFFERED)


def test_a_stock_guest_is_decided_whole() -> None:
    """All 13 features that it is offered have an answer with its reason."""
    found = answers(STOCK, Found(HOST))
    assert found == ON_HOST
    assert [use.enabled for name, use in found.items() if HOST.offers(feature_named(name))].count(None) == 0
    assert list(found) == [feature.name for feature in FEATURES]


FLAGS = frozenset({"fpu", "monitor"})
ONE_CPU = "one possible CPU"
DEDICATED = "hints_realtime set at boot"


@pytest.mark.parametrize(
    ("evidence", "leaves", "expected"),
    [
        ({"possible_cpus": 1}, HOST, no(ONE_CPU, *WITHOUT_MSRS)),
        ({"possible_cpus": 1, "release": "7.2.13"}, HOST, no(ONE_CPU, *WITHOUT_MSRS)),
        (
            {"possible_cpus": 1, "release": "5.15.0-91-generic"},
            HOST,
            {
                **unknown(f"{ONE_CPU}: only known from Linux 6.1 on", *WITHOUT_MSRS),
                **no(ONE_CPU, "pv_unhalt"),
            },
        ),
        ({"cpu_flags": FLAGS}, HOST, no("CPU flag monitor", "pv_tlb_flush", "pv_sched_yield")),
        (
            {"cpu_flags": FLAGS, "release": "5.10.0-32-amd64"},
            HOST,
            unknown("CPU flag monitor: only known from Linux 6.1 on", "pv_tlb_flush", "pv_sched_yield"),
        ),
        ({"release": "5.10.0-32-amd64"}, HOST, {}),
        (
            {"release": "4.18.0-553.el8_10.x86_64"},
            HOST,
            unknown("only known from Linux 5.10 on", *BY_CODE),
        ),
        (
            {},
            guest(0x01007AFB, 1),
            {
                **no(DEDICATED, "pv_unhalt", "pv_tlb_flush", "pv_sched_yield"),
                "hints_realtime": Use(Answer.NOTHING, "a hint, not a feature"),
            },
        ),
        ({"cpuidle_driver": "haltpoll"}, HOST, {"poll_control": YES}),
        ({"cpuidle_driver": "intel_idle"}, HOST, {}),
        ({"has_pv_spinlocks": False}, HOST, no("built without CONFIG_PARAVIRT_SPINLOCKS", "pv_unhalt")),
        (
            {},
            guest(0x01007ADB),
            {
                **not_offered("steal_time"),
                **no("needs steal_time, not offered at boot", "pv_tlb_flush", "pv_sched_yield"),
            },
        ),
        (
            {},
            guest(0x01003EFB),
            {
                **not_offered("async_pf_int"),
                **no("needs async_pf_int, not offered at boot", "async_pf", "async_pf_vmexit"),
            },
        ),
        ({}, guest(0x01007EFB), {"async_pf_vmexit": YES}),
        (
            {},
            guest(0x01007AEB),
            {
                **not_offered("async_pf"),
                "async_pf_int": Use(Answer.YES, "offered at boot; a migration ends it, as async_pf is not offered"),
            },
        ),
        ({}, guest(0x01007AF3), {"clocksource": YES, **not_offered("clocksource2")}),
        ({}, guest(0x01007AFF), no("Linux has no code for it", "mmu_op")),
        (
            {},
            guest(0x0103FAFB),
            {
                **unknown("the kernel does not show it", "msi_ext_dest_id"),
                **unknown("only for encrypted guests", "hc_map_gpa_range", "migration_control"),
            },
        ),
        # Without kvm-clock there is no sign that KVM's guest code ran.
        (
            {"available_clocksources": frozenset({"tsc"})},
            HOST,
            unknown("kvm-clock is not registered", "clocksource2", "clocksource_stable_bit", *BY_CODE),
        ),
        # The hint, and what else keeps a feature off, does so whether or not the code ran.
        (
            {"available_clocksources": frozenset({"kvm-clock-2", "tsc-kvm-clock"}), "possible_cpus": 1},
            HOST,
            {
                **unknown("kvm-clock is not registered", "clocksource2", "clocksource_stable_bit", *BY_CODE),
                **no(ONE_CPU, *WITHOUT_MSRS),
            },
        ),
    ],
)
def test_each_condition(evidence: dict[str, Any], leaves: Leaves, expected: Mapping[str, Use]) -> None:
    """Each condition of the kernel changes the answers for the features that it is for, and no other."""
    assert changed(replace(STOCK, **evidence), Found(leaves)) == expected


@pytest.mark.parametrize(
    ("field", "reason", "names"),
    [
        (
            "available_clocksources",
            "cannot read /sys/devices/system/clocksource/clocksource0/available_clocksource",
            ("clocksource2", "clocksource_stable_bit", *BY_CODE),
        ),
        ("parameters", "cannot read /proc/cmdline", (*ASYNC_PF, "pv_unhalt")),
        ("cpuidle_driver", "cannot read /sys/devices/system/cpu/cpuidle/current_driver", ("poll_control",)),
        ("cpu_flags", "cannot read /proc/cpuinfo", ("pv_tlb_flush", "pv_sched_yield")),
        ("possible_cpus", "cannot read /sys/devices/system/cpu/possible", WITHOUT_MSRS),
        ("release", "cannot read /proc/sys/kernel/osrelease", BY_CODE),
        (
            "has_pv_spinlocks",
            "cannot read /boot/config-6.1.0-50-cloud-amd64 or /proc/config.gz",
            ("pv_unhalt",),
        ),
        ("steal_ticks", "", ()),
        ("hypervisor_interrupts", "", ()),
        ("current_clocksource", "", ()),
    ],
)
def test_what_cannot_be_read_is_named(field: str, reason: str, names: tuple[str, ...]) -> None:
    """A condition that cannot be read makes its features unknown, and the reason is the file."""
    assert changed(without(STOCK, field), Found(HOST)) == unknown(reason, *names)


def test_every_field_is_tried_without() -> None:
    """Without any evidence nothing is said, but that the old clock is not used beside the new one."""
    nothing = answers(Evidence(), Found(HOST))
    assert {name for name, use in nothing.items() if use.enabled is not None} == {"clocksource"}
    tried = {"available_clocksources", "parameters", "cpuidle_driver", "cpu_flags", "possible_cpus", "release"}
    more = {"has_pv_spinlocks", "steal_ticks", "hypervisor_interrupts", "current_clocksource", "sev_snp", "unread"}
    assert {field.name for field in fields(Evidence)} == tried | more


@pytest.mark.parametrize("word", SWITCHES)
def test_a_boot_parameter(word: str) -> None:
    """It forbids its features, offered or not; the others stay as they are."""
    evidence = replace(STOCK, parameters=frozenset({"ro", word}))
    expected = no(f"boot parameter {word}", *SWITCHES[word])
    assert changed(evidence, Found(HOST)) == expected
    assert answers(evidence, Found(guest(0)))["pv_unhalt"].answer == (
        Answer.NO if "pv_unhalt" in SWITCHES[word] else Answer.NOTHING
    )
    assert {(feature.name, switch) for feature, switch in switched_off(evidence, Found(HOST))} == {
        (name, word) for name in SWITCHES[word]
    }


def test_nopv_forbids_what_kvms_guest_code_enables() -> None:
    """Neither kvm_init_platform() nor kvm_guest_init() runs then; haltpoll needs neither of them."""
    assert set(SWITCHES["nopv"]) == {*CONDITIONS, "msi_ext_dest_id"} - {"mmu_op", "poll_control"}


def test_boot_parameters_together() -> None:
    """Each feature is named once for each of them; an old or unknown kernel may not know them."""
    evidence = replace(STOCK, parameters=frozenset({"nopv", "no-kvmclock", "no-steal-acc"}))
    assert answers(evidence, Found(HOST))["clocksource2"].reason == "boot parameter no-kvmclock and nopv"
    assert switched_off(evidence, Found(HOST))[:2] == (
        (feature_named("clocksource"), "no-kvmclock"),
        (feature_named("clocksource"), "nopv"),
    )
    for release in ("4.18.0", None):
        assert switched_off(replace(evidence, release=release), Found(HOST)) == ()
    assert switched_off(replace(evidence, parameters=None), Found(HOST)) == ()


STOLEN: Mapping[str, Any] = {"steal_ticks": 1}
CALLED_BACK: Mapping[str, Any] = {"hypervisor_interrupts": 1}


@pytest.mark.parametrize(
    ("evidence", "leaves", "name", "expected"),
    [
        (STOLEN, HOST, "steal_time", Use(Answer.YES, "steal time above 0")),
        (STOLEN, guest(0x01007ADB), "steal_time", Use(Answer.BROKEN, "not offered now")),
        ({**STOLEN, "parameters": {"nopv"}}, HOST, "steal_time", Use(Answer.YES, "steal time above 0")),
        (CALLED_BACK, HOST, "async_pf_int", Use(Answer.YES, "page-ready interrupts arrived")),
        (CALLED_BACK, guest(0x01003AFB), "async_pf_int", Use(Answer.BROKEN, "not offered now")),
        (CALLED_BACK, BESIDE_HYPER_V, "async_pf_int", YES),
        ({}, guest(0), "clocksource2", Use(Answer.WITHDRAWN, "kvm-clock is registered")),
        ({}, ONLY_OLD_CLOCK, "clocksource2", NOT_OFFERED),
    ],
)
def test_direct_evidence_needs_no_reference(evidence: dict[str, Any], leaves: Leaves, name: str, expected: Use) -> None:
    """What the kernel shows only if it has enabled a feature counts, whatever the leaves at boot were."""
    assert answers(replace(STOCK, **evidence), Found(leaves))[name] == expected


def test_a_late_reference_says_so() -> None:
    """The answers rest on what was offered when first sampled, and what was not offered then is unknown."""
    when = "when first sampled, 200 days after boot"
    found = answers(STOCK, Found(guest(0x01007ADB), when, early=False))
    assert found["nop_io_delay"] == Use(Answer.YES, f"offered {when}")
    assert found["pv_tlb_flush"] == Use(Answer.UNKNOWN, f"needs steal_time, not offered {when}")
    assert found["steal_time"] == Use(Answer.UNKNOWN, f"not offered {when}")
    assert found["poll_control"] == Use(Answer.NO, "haltpoll not loaded")


NOW = "not offered now"


@pytest.mark.parametrize(
    ("eax", "expected"),
    [
        (0x01007ADB, {
            "steal_time": Use(Answer.BROKEN, NOW),
            "pv_tlb_flush": Use(Answer.BROKEN, f"steal_time {NOW}"),
            "pv_sched_yield": Use(Answer.BROKEN, f"steal_time {NOW}"),
        }),
        (0x01007AEB, {
            "async_pf": Use(Answer.BROKEN, NOW),
            "async_pf_int": Use(Answer.BROKEN, f"async_pf {NOW}"),
        }),
        (0x01003AFB, {
            "async_pf": Use(Answer.BROKEN, f"async_pf_int {NOW}"),
            "async_pf_int": Use(Answer.BROKEN, NOW),
        }),
        (0x01007ABB, {"pv_eoi": Use(Answer.BROKEN, NOW)}),
        # What has no MSR, or one that some versions of QEMU restore, may go on.
        (0x01007A7B, {"pv_unhalt": Use(Answer.WITHDRAWN, "offered at boot")}),
        (0x01007AF2, {"clocksource2": Use(Answer.WITHDRAWN, "offered at boot")}),
        (0x010068FB, {
            "pv_tlb_flush": Use(Answer.WITHDRAWN, "offered at boot"),
        }),
        # A feature that is not used is not missed, and one that is gained is not used.
        (0x01006AFB, {}),
        (0x0103FEFF, {}),
    ],
)  # fmt: skip
def test_an_enabled_feature_may_not_work_any_more(eax: int, expected: Mapping[str, Use]) -> None:
    """What is lost after boot stays enabled, and people read what that means."""
    assert changed(STOCK, Found(HOST), guest(eax)) == expected
    assert all(use.enabled for use in expected.values())


def test_nothing_of_a_vanished_kvm_works_as_offered() -> None:
    """Each enabled feature is enabled still, and none is a bare "yes"."""
    found = answers(STOCK, Found(HOST), NO_HYPERVISOR)
    assert {name for name, use in found.items() if use.enabled} == {name for name, use in ON_HOST.items() if use == YES}
    assert YES not in found.values()
    assert found["steal_time"].explanation == "enabled, does not work any more: not offered now"
    assert found["nop_io_delay"].explanation == "enabled, not offered any more: offered at boot"
    assert found["poll_control"].explanation == "haltpoll not loaded"


@pytest.mark.parametrize("boot", [VMWARE, NO_HYPERVISOR, Leaves(hypervisor_bit=True)], ids=["VMware", "none", "hidden"])
def test_without_kvm_nothing_is_said(boot: Leaves) -> None:
    """Without KVM no feature is known: the evidence comes from other hypervisors."""
    evidence = replace(STOCK, **STOLEN, **CALLED_BACK, parameters=frozenset(SWITCHES))
    assert features_in_use(evidence, Found(boot), boot) == {}
    assert switched_off(evidence, Found(boot)) == ()


def test_every_feature_is_in_one_table() -> None:
    """Every assigned feature has conditions, or a reason why not; and the switches name no other."""
    names = {feature.name for feature in FEATURES}
    assert CONDITIONS.keys() | NOT_DECIDED.keys() == names
    assert not CONDITIONS.keys() & NOT_DECIDED.keys()
    assert {name for forbidden in SWITCHES.values() for name in forbidden} <= names


EVIDENCE = st.builds(
    Evidence,
    st.none() | st.frozensets(st.sampled_from(["kvm-clock", "tsc"])),
    st.none() | st.sampled_from(["kvm-clock", "tsc"]),
    # Those with which kvm-clock can be registered.
    st.none() | st.frozensets(st.sampled_from(["no-kvmapf", "nopvspin", "quiet"])),
    st.none() | st.integers(0, 3),
    st.none() | st.integers(0, 3),
    st.none() | st.sampled_from(["haltpoll", "none"]),
    st.none() | st.frozensets(st.sampled_from(["monitor", "fpu"])),
    st.booleans(),
    st.none() | st.integers(1, 3),
    st.none() | st.sampled_from(["4.18.0", "5.10.0", "5.18.0", "6.1.0", "7.2.13"]),
    st.none() | st.booleans(),
)
WORD = st.integers(0, 2**32 - 1)


@given(EVIDENCE, WORD, st.integers(0, 1), WORD, st.booleans())
def test_each_answer_has_its_evidence(evidence: Evidence, eax: int, edx: int, now: int, early: bool) -> None:  # noqa: FBT001
    """An enabled feature was offered at boot or shows itself; without a file an answer becomes unknown, no other.

    Of a feature that a switch forbids there always is one: KvmFeatureSwitchedOff rests on that.
    """
    found = Found(guest(eax, edx), early=early)
    given_all = features_in_use(evidence, found, guest(now))
    shown = {"steal_time", "async_pf_int", "clocksource2"}
    for feature, use in given_all.items():
        assert use.reason
        assert not use.enabled or found.leaves.offers(feature) or feature.name in shown
        assert (use.answer is Answer.YES) <= guest(now).offers(feature)
    assert all(given_all[feature].enabled is not None for feature, _ in switched_off(evidence, found))
    for field in ("cpuidle_driver", "cpu_flags", "possible_cpus", "release", "has_pv_spinlocks"):
        less = features_in_use(without(evidence, field), found, guest(now))
        for feature, use in less.items():
            assert use.enabled in {None, given_all[feature].enabled}


@pytest.mark.parametrize(
    ("current", "expected"), [("kvm-clock\n", True), ("tsc\n", False), ("hpet\n", False), ("\n", None), (None, None)]
)
def test_where_the_time_comes_from(tmp_path: Path, current: Content, expected: bool | None) -> None:  # noqa: FBT001 - a table
    """The result says whether kvm-clock is the current clocksource, and is None if that is unknown."""
    found = read_evidence(kernel(tmp_path, {CURRENT: current}))
    assert Observation(sample_of({0: HOST}), clocksource=found.current_clocksource).kvmclock_is_current is expected


def observer_of(machine: Machine, root: Path, keeper: BootReferenceKeeper | None) -> Observer:
    """An Observer of a machine and of the kernel whose files are under a root."""
    return Observer(machine, CpuSelection(), keeper, host=False, root=root)


def test_evidence_is_judged_by_what_was_offered_at_boot(tmp_path: Path) -> None:
    """The leaves at boot decide: a bit that is lost later does not change what the kernel has enabled."""
    machine = live_machine(0x01007AFB)
    keeper = BootReferenceKeeper(None, Boot("boot", 0.0, 0.0))
    observer = observer_of(machine, kernel(tmp_path, {STAT: "cpu  1 2 3 4 5 6 7 0 0 0\n"}), keeper)
    before = observer.observe(None)
    machine.cpus[0] = reader(kvm_rows(0x0000_0001))
    after = observer.observe(before.sample)
    assert after.sample.common == guest(1)
    assert enabled(after) == enabled(before)
    assert {"clocksource2", "steal_time", "pv_unhalt", "poll_control"} <= enabled(after)
    assert after.in_use[feature_named("steal_time")].answer is Answer.BROKEN
    assert after.used_not_offered == (), "KvmFeatureLost tells of it"
    machine.cpus[0] = reader(BARE_METAL)
    assert enabled(observer.observe(after.sample)) == enabled(before)


def enabled(observation: Observation) -> set[str]:
    """The names of the features that the kernel has enabled."""
    return {feature.name for feature, use in observation.in_use.items() if use.enabled}


@pytest.mark.parametrize(
    ("uptime", "reason"),
    [
        (20.0, "offered at boot"),
        (200 * 86_400.0, "offered when first sampled, 200 days after boot"),
        (None, "offered now; no boot reference"),
    ],
)
def test_the_reason_says_when_it_was_offered(tmp_path: Path, uptime: float | None, reason: str) -> None:
    """At boot as far as the reference was taken early; without a reference the current leaves stand for it."""
    keeper = None
    if uptime is not None:
        boot = read_boot()
        (tmp_path / FILE_NAME).write_bytes(format_reference(BootReference(HOST, 0.0, uptime=uptime), boot))
        keeper = BootReferenceKeeper(tmp_path, boot)
    found = observer_of(live_machine(0x01007AFB), kernel(tmp_path), keeper).observe(None)
    assert found.in_use[feature_named("nop_io_delay")] == Use(Answer.YES, reason)
    assert found.used_not_offered == ()


@pytest.mark.parametrize(("boottime", "expected"), [(60.0, Answer.NO), (1000.0, Answer.UNKNOWN)])
def test_without_a_reference_an_early_sample_stands_for_the_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boottime: float, expected: Answer
) -> None:
    """As early as that of a reference has to be; a later one cannot tell what was not offered at boot."""
    sample = replace(sample_of({0: guest(0x01007ADB)}), boottime=boottime)
    monkeypatch.setattr("kvm_exporter.collector.observer.sweep", lambda *_: sample)
    found = observer_of(live_machine(0), kernel(tmp_path), None).observe(None)
    assert found.in_use[feature_named("pv_tlb_flush")].answer is expected


def test_a_new_reference_makes_no_use_out_of_nothing(tmp_path: Path) -> None:
    """A reference that was taken after a loss lacks the bit: its use is unknown, unless the kernel shows it."""
    root = kernel(tmp_path, {STAT: "cpu  1 2 3 4 5 6 7 0 0 0\n"})
    observer = observer_of(live_machine(0x01007A9B), root, BootReferenceKeeper(None, Boot("boot", 0.0, 1e6)))
    found = observer.observe(None)
    assert found.in_use[feature_named("steal_time")].enabled is None
    assert found.used_not_offered == ()
    kernel(tmp_path)
    assert observer.observe(found.sample).used_not_offered == (feature_named("steal_time"),)


def test_the_guest_collector_is_there(tmp_path: Path) -> None:
    """An observation includes the guest collector's success."""
    found = observer_of(live_machine(1), kernel(tmp_path), None).observe(None)
    assert list(found.collectors) == ["guest"]
    assert found.collectors["guest"].success


def test_what_cannot_be_read_is_not_collected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A restricted /proc or /sys is a failed collector; each file is logged once, and once more when it is back."""
    caplog.set_level(logging.INFO)
    observer = Observer(live_machine(1), CpuSelection(), None, host=False, root=tmp_path)
    for _ in range(3):
        found = observer.observe(None)
        assert not found.collectors["guest"].success
        assert {use.enabled for use in found.in_use.values()} == {None}
        assert found.kvmclock_is_current is None
    assert caplog.messages == [
        f"/{name} cannot be read, so what the guest kernel uses is not known completely" for name in ALWAYS_THERE
    ]
    caplog.clear()
    kernel(tmp_path)
    assert observer.observe(None).collectors["guest"].success
    assert caplog.messages == [f"/{name} can be read again" for name in ALWAYS_THERE]
