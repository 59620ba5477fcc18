"""kvm_exporter.metrics.machine: the metrics of drift, use and host; their values and when they are absent."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric

from kvm_exporter.collector.boot import BootReference
from kvm_exporter.collector.conditions import Answer, Use
from kvm_exporter.collector.observer import Observation
from kvm_exporter.kvm.features import FEATURES, Feature, feature_named
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Kvm, Leaves, SignatureLeaf, Timing, fingerprint
from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.machine import machine_families, observed_families
from kvm_exporter.metrics.negotiation import Format
from lab.readers import BASE, guest, kvm_of, sample_of
from lab.scrape import Scrape

ALL = guest(0x01007EFB)
STOLEN = guest(0x01007EDB)
MOVED = guest(0x01007EFB, base=0x4000_0100)
NO_KVM = Leaves(hypervisor_bit=True)
BARE_METAL = Leaves(hypervisor_bit=False)
BESIDE_HYPER_V = replace(MOVED, hypervisors=(SignatureLeaf(0x4000_0000, b"Microsoft Hv", 0), *MOVED.hypervisors))
ANOTHER_CLOCK = replace(ALL, kvm=replace(kvm_of(ALL), timing=Timing(2_600_000, 1_000_000)))

FEATURE = ("feature", "register", "bit", "signature")
BIT = ("feature", "register", "bit")

WORDS = st.integers(0, 2**32 - 1)


def scrape(observation: Observation) -> Scrape:
    """Return a scrape of all machine metrics of an observation."""
    reference = observation.reference.leaves if observation.reference is not None else None
    return text_of(*machine_families(observation.sample, reference), *observed_families(observation))


def text_of(*families: Metric) -> Scrape:
    """Render families as text, and parse the text."""
    return Scrape(render(families, Format.TEXT_0_0_4).decode())


def drifted(boot: Leaves, now: Leaves) -> Scrape:
    """Return a scrape of a machine whose leaves differ from the boot reference."""
    return scrape(Observation(sample_of({0: now}), BootReference(boot, 1704000000.5, 20.0)))


def by_place(scrape: Scrape, name: str) -> dict[str, float]:
    """Return the values of a feature family by name, and check that the labels are those of the feature."""
    values = {}
    for labels, value in scrape.values(name, *FEATURE).items():
        feature = feature_named(labels[0])
        assert labels == (feature.name, feature.register, str(feature.bit), "KVMKVMKVM")
        values[feature.name] = value
    return values


@pytest.mark.parametrize(
    ("boot", "now", "changed", "signature_changed"),
    [
        (ALL, ALL, {}, 0),
        (ALL, ANOTHER_CLOCK, {}, 0),
        (ALL, guest(0x01007EFB, max_leaf=0), {}, 0),
        (ALL, STOLEN, {"steal_time": -1}, 0),
        (STOLEN, ALL, {"steal_time": 1}, 0),
        (guest(0x28), guest(0x4000_0008, 1), {"steal_time": -1, "eax_bit_30": 1, "hints_realtime": 1}, 0),
        (guest(0x8000_0000, 0x20), guest(0), {"eax_bit_31": -1, "edx_bit_5": -1}, 0),
        (ALL, MOVED, {}, 1),
        (MOVED, BESIDE_HYPER_V, {}, 1),
        (guest(0x28), NO_KVM, {"steal_time": -1, "clocksource2": -1}, 1),
        (NO_KVM, guest(0x28), {"steal_time": 1, "clocksource2": 1}, 1),
        (guest(0), BARE_METAL, {}, 1),
        (NO_KVM, BARE_METAL, {}, 1),
        (BARE_METAL, BARE_METAL, {}, 0),
    ],
    ids=[
        *("same", "another clock", "another highest leaf", "lost", "gained", "both", "unassigned", "moved"),
        *("Hyper-V came", "vanished", "appeared", "vanished without a feature", "no hypervisor any more", "bare metal"),
    ],
)
def test_drift_since_the_boot(boot: Leaves, now: Leaves, changed: Mapping[str, int], signature_changed: int) -> None:
    """The counts and the signature's flag always exist; a bit has a series of -1 or 1 only if it differs."""
    found = drifted(boot, now)
    lost, gained = (sum(value == sign for value in changed.values()) for sign in (-1, 1))
    assert found.values("kvm_boot_feature_changes", "change") == {("lost",): lost, ("gained",): gained}
    assert by_place(found, "kvm_boot_feature_changed") == changed
    assert found.values("kvm_boot_signature_changed") == {(): signature_changed}
    assert found.values("kvm_boot_reference_timestamp_seconds") == {(): 1704000000.5}


@given(WORDS, WORDS, WORDS, WORDS)
def test_what_is_lost_or_gained_adds_up(eax: int, edx: int, now_eax: int, now_edx: int) -> None:
    """The number of changed bits equals the counts, and each such bit has its present value in kvm_feature_offered."""
    found = drifted(guest(eax, edx), guest(now_eax, now_edx))
    changed = by_place(found, "kvm_boot_feature_changed")
    assert (
        found.value("kvm_boot_feature_changes", change="lost")
        == (eax & ~now_eax).bit_count() + (edx & ~now_edx).bit_count()
    )
    assert sum(value == -1 for value in changed.values()) == found.value("kvm_boot_feature_changes", change="lost")
    assert sum(value == 1 for value in changed.values()) == found.value("kvm_boot_feature_changes", change="gained")
    offered = by_place(found, "kvm_feature_offered")
    assert {name: offered[name] for name in changed} == {name: value == 1 for name, value in changed.items()}


def test_the_bits_of_the_boot_stay_as_0_when_kvm_vanishes() -> None:
    """If KVM vanishes, bits of the boot reference stay as 0, so that alerts have a series; other bits are absent."""
    found = drifted(guest(0x4000_0028, 1), NO_KVM)
    gone = {"clocksource2": 0, "steal_time": 0, "eax_bit_30": 0, "hints_realtime": 0}
    assert found.value("kvm_present") == 0
    assert by_place(found, "kvm_feature_offered") == gone
    assert by_place(found, "kvm_feature_offered_cpus") == gone


def test_bits_that_came_with_kvm_are_the_samples() -> None:
    """If KVM appears after the boot, all assigned features have a series."""
    found = drifted(NO_KVM, guest(0x20))
    assert found.value("kvm_feature_offered", feature="steal_time") == 1
    assert len(found.values("kvm_feature_offered", *FEATURE)) == len(FEATURES)


def test_only_what_most_cpus_offer_drifts() -> None:
    """Only the common leaves are compared with the boot reference; a divergent CPU is counted separately."""
    observation = Observation(sample_of({0: ALL, 1: ALL, 2: STOLEN}), BootReference(ALL, 1.0, 20.0))
    found = scrape(observation)
    assert found.values("kvm_boot_feature_changed", *FEATURE) == {}
    assert found.value("kvm_cpus_divergent") == 1


def test_without_a_reference_nothing_is_said_of_the_boot() -> None:
    """Without a reference, as for a dump, no metric of the boot exists."""
    assert not [name for name in scrape(Observation(sample_of({0: ALL}))).names if name.startswith("kvm_boot")]


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ({}, {}),
        (
            {
                feature_named("steal_time"): Use(Answer.YES, "offered at boot"),
                feature_named("pv_eoi"): Use(Answer.BROKEN, "not offered now"),
                feature_named("pv_unhalt"): Use(Answer.NO, "one possible CPU"),
                feature_named("pv_tlb_flush"): Use(Answer.UNKNOWN, "cannot read /proc/cpuinfo"),
                feature_named("async_pf"): Use(Answer.NOTHING, "not offered at boot"),
            },
            {("steal_time", "eax", "5"): 1, ("pv_eoi", "eax", "6"): 1, ("pv_unhalt", "eax", "7"): 0},
        ),
    ],
    ids=["nothing known", "known"],
)
def test_what_is_in_use(used: Mapping[Feature, Use], expected: Mapping[tuple[str, ...], int]) -> None:
    """An enabled feature is 1, whether or not it still works, one that is not enabled 0, any other is absent."""
    observation = Observation(sample_of({0: ALL}), in_use=used)
    found = scrape(observation)
    assert found.values("kvm_feature_in_use", *BIT) == expected
    assert found.values("kvm_unoffered_feature_in_use", *BIT) == {}


@pytest.mark.parametrize("now", [STOLEN, NO_KVM, BARE_METAL])
def test_what_is_in_use_and_not_offered(now: Leaves) -> None:
    """Of bits that most CPUs are not offered, the values of kvm_feature_in_use; the CPUs that differ do not matter."""
    used = {
        feature_named("clocksource_stable_bit"): Use(Answer.UNKNOWN, "cannot read /proc/cmdline"),
        feature_named("steal_time"): Use(Answer.BROKEN, "not offered now"),
        feature_named("pv_tlb_flush"): Use(Answer.YES, "offered at boot"),
        feature_named("migration_control"): Use(Answer.NO, "no SEV guest"),
    }
    found = scrape(Observation(sample_of({0: now, 1: now, 2: ALL}), BootReference(ALL, 1.0, 20.0), in_use=used))
    offered = by_place(found, "kvm_feature_offered")
    values = found.values("kvm_unoffered_feature_in_use", *BIT)
    assert values == {
        bit: value for bit, value in found.values("kvm_feature_in_use", *BIT).items() if not offered.get(bit[0])
    }
    assert values[("steal_time", "eax", "5")] == 1
    assert values[("migration_control", "eax", "17")] == 0
    assert (("pv_tlb_flush", "eax", "9") in values) is (now is not STOLEN)


def test_what_a_switch_forbids() -> None:
    """There is a series for each feature and switch, and none without switches."""
    steal_time = feature_named("steal_time")
    observation = Observation(sample_of({0: ALL}), switched_off=((steal_time, "no-such"), (steal_time, "nopv")))
    values = scrape(observation).values("kvm_feature_switched_off", *BIT, "switch")
    assert values == {("steal_time", "eax", "5", "no-such"): 1, ("steal_time", "eax", "5", "nopv"): 1}
    assert scrape(Observation(sample_of({0: ALL}))).values("kvm_feature_switched_off", *BIT) == {}


@pytest.mark.parametrize(("current", "expected"), [("kvm-clock", {(): 1}), ("tsc", {(): 0}), (None, {})])
def test_where_the_kernels_time_comes_from(current: str | None, expected: Mapping[tuple[()], int]) -> None:
    """The value is 1 for kvm-clock, 0 for another clocksource, and absent if that is unknown."""
    observation = Observation(sample_of({0: ALL}), clocksource=current)
    assert scrape(observation).values("kvm_clocksource_current_is_kvmclock") == expected


OFFERED_BY_KVM = {feature.bit for feature in FEATURES if feature.register == "eax" and not feature.vmm_only}
NOT_ASSIGNED = set(range(32)) - {feature.bit for feature in FEATURES if feature.register == "eax"}


@pytest.mark.parametrize(
    ("eax", "more"),
    [
        (0, set()),
        (0x01007AFB, set()),
        (0x0103_FEFB, set()),
        (0xC100_7EFB, {30, 31}),
        (0xFFFF_FFFF, NOT_ASSIGNED),
    ],
    ids=["nothing", "an older kernel", "what a VMM sets", "unassigned", "all ones"],
)
def test_what_the_host_supports(eax: int, more: set[int]) -> None:
    """A bit that KVM itself can offer is 1 or 0, an unassigned one 1 or absent; bits 15 to 17 and hints are absent."""
    found = scrape(Observation(sample_of({0: ALL}), host=Kvm(BASE, eax, 0xFFFF_FFFF)))
    values = found.values("kvm_host_feature_supported", "register", "bit")
    assert values == {("eax", str(bit)): eax >> bit & 1 for bit in OFFERED_BY_KVM | more}


@pytest.mark.parametrize("eax", [0x01007AFB, 0x0103_FAFB], ids=["KVM's own bits", "bits that only a VMM sets"])
def test_the_fingerprint_of_a_host(eax: int) -> None:
    """It depends only on the bits that KVM itself states."""
    found = scrape(Observation(sample_of({0: ALL}), host=Kvm(BASE, eax, 1)))
    assert found.values("kvm_host_fingerprint_info", "fingerprint") == {(fingerprint(Kvm(BASE, 0x01007AFB, 0)),): 1}


@pytest.mark.parametrize(("technology", "expected"), [("sev-snp", {("sev-snp",): 1}), (None, {})])
def test_leaves_that_cannot_show_drift_are_marked(technology: str | None, expected: dict[tuple[str], int]) -> None:
    """The series is there only where the kernel tells so: its absence is no promise."""
    found = scrape(Observation(sample_of({0: ALL}), fixed_at_launch=technology))
    assert found.values("kvm_leaves_fixed_at_launch", "technology") == expected


@pytest.mark.parametrize("based_on_tsc", [True, False])
def test_the_clocksource_of_a_host_shows_without_the_device(based_on_tsc: bool) -> None:  # noqa: FBT001
    """It is served also where /dev/kvm could not be opened."""
    found = scrape(Observation(sample_of({0: ALL}), host_clocksource_based_on_tsc=based_on_tsc))
    assert found.value("kvm_host_clocksource_based_on_tsc") == based_on_tsc


def test_no_host_no_series() -> None:
    """Without a host, as in most guests, there are no series about one."""
    found = scrape(Observation(sample_of({0: ALL})))
    assert not [name for name in found.names if name.startswith("kvm_host_")]


def test_the_signature_is_kvms_own() -> None:
    """The label signature is KVM's even if Hyper-V's signature is present as well."""
    found = drifted(BESIDE_HYPER_V, BESIDE_HYPER_V)
    assert {labels[3] for labels in found.values("kvm_feature_offered", *FEATURE)} == {
        KVM_SIGNATURE.rstrip(b"\0").decode()
    }
