"""kvm_exporter.metrics.machine: names, labels and values of all metrics of a sample, and the number of series."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric

from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.cpuid.registers import Registers
from kvm_exporter.kvm.features import FEATURES
from kvm_exporter.kvm.leaves import Leaves, SignatureLeaf
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.machine import machine_families
from kvm_exporter.metrics.negotiation import Format
from lab.pvclock import pvclock_page
from lab.readers import BASE, Machine, Rows, guest, kvm_rows, leaf_1, reader, sample_of, signature_leaf
from lab.scrape import Scrape

DEFAULT, ALL = guest(0x0100007B), guest(0x01007EFB)
NO_KVM = Leaves(hypervisor_bit=True)
XEN = {1: leaf_1(), BASE: signature_leaf(b"XenVMMXenVMM", BASE + 5)}
WORDS = st.integers(0, 2**32 - 1)

BIT_LABELS = ("register", "bit", "feature")
CATALOGUE = {
    "kvm_present": ("gauge", set()),
    "kvm_signature": ("info", {"signature", "base", "max_leaf"}),
    "kvm_feature_offered": ("gauge", {"feature", "register", "bit", "signature"}),
    "kvm_feature_offered_cpus": ("gauge", {"feature", "register", "bit", "signature"}),
    "kvm_fingerprint": ("info", {"fingerprint"}),
    "kvm_tsc_frequency_hertz": ("gauge", set()),
    "kvm_bus_frequency_hertz": ("gauge", set()),
    "kvm_clock_stable": ("gauge", set()),
    "kvm_clock_tsc_frequency_hertz": ("gauge", set()),
    "kvm_cpu_register": ("gauge", {"cpu", "leaf", "register"}),
    "kvm_cpu_feature_offered": ("gauge", {"cpu", "feature", "register", "bit"}),
    "kvm_cpus_online": ("gauge", set()),
    "kvm_cpus": ("gauge", {"state"}),
    "kvm_cpus_divergent": ("gauge", set()),
}
"""The type and the labels of each family of a machine that has every one."""

FROM_LEAVES = {name for name in CATALOGUE if name not in {"kvm_cpus_online", "kvm_cpus"} and "_clock_" not in name}


def scrape(sample: Sample, reference: Leaves | None = None, *, per_cpu_features: bool = False) -> Scrape:
    """Return the machine's families as a scrape."""
    families = machine_families(sample, reference, per_cpu_features=per_cpu_features)
    return Scrape(render(families, Format.TEXT_0_0_4).decode())


def number_of_series(families: Iterable[Metric]) -> int:
    """Return the number of series in the families."""
    return sum(len(family.samples) for family in families)


def offered(found: Scrape) -> dict[tuple[str, ...], float]:
    """Return kvm_feature_offered by register, bit and feature."""
    return found.values("kvm_feature_offered", *BIT_LABELS)


def complete() -> Sample:
    """Return a sample of a machine with a timing leaf, an unassigned bit, and a pvclock page."""
    rows = kvm_rows(0x81007EFB, 1, timing=Registers(2_599_997, 1_000_000, 0, 0))
    machine = Machine({0: reader(rows), 1: reader(rows)})
    machine.page = pvclock_page()
    return sweep(machine, CpuSelection(), None)


COMPLETE = tuple(machine_families(complete(), per_cpu_features=True))


def test_every_metric_has_its_type_and_labels() -> None:
    """Every family has exactly the type and the labels of the catalogue, which rules and dashboards rely on."""
    families = {family.name: (family.type, set(family.samples[0].labels)) for family in COMPLETE}
    assert families == CATALOGUE
    for family in COMPLETE:
        assert {frozenset(sample.labels) for sample in family.samples} == {frozenset(CATALOGUE[family.name][1])}


@pytest.mark.parametrize("family", COMPLETE, ids=lambda family: str(family.name))
def test_help_says_where_the_value_comes_from(family: Metric) -> None:
    """HELP is one line and names the leaf and the register, or the file."""
    assert family.documentation.isprintable()
    if family.name in FROM_LEAVES:
        assert "CPUID leaf" in family.documentation or "CPUID leaves" in family.documentation
        assert any(register in family.documentation for register in ("EAX", "EBX", "EDX"))
    else:
        places = ("sys/devices/system/cpu/online", "sample", "pvclock page")
        assert any(place in family.documentation for place in places)


def test_help_of_the_features_says_how_late_a_change_may_show() -> None:
    """HELP says how late a live migration, which causes no event, is detected."""
    [family] = [family for family in COMPLETE if family.name == "kvm_feature_offered"]
    assert "maximum age plus a scrape interval" in family.documentation


@pytest.mark.parametrize(
    ("leaves", "expected"), [(ALL, 1), (guest(0), 1), (NO_KVM, 0), (Leaves(hypervisor_bit=False), 0)]
)
def test_presence_is_the_signature(leaves: Leaves, expected: int) -> None:
    """KVM is present if its signature is, even without a feature; absence is no error."""
    assert scrape(sample_of({0: leaves})).value("kvm_present") == expected


@pytest.mark.parametrize(
    ("hypervisors", "expected"),
    [
        ((), set()),
        (
            (
                SignatureLeaf(0x4000_0000, b"Microsoft Hv", 0x4000_0005),
                SignatureLeaf(0x4000_0100, b"KVMKVMKVM\0\0\0", 0),
            ),
            {("Microsoft Hv", "0x40000000", "0x40000005"), ("KVMKVMKVM", "0x40000100", "0x00000000")},
        ),
        (
            (SignatureLeaf(0x4000_FF00, b' "\\\n\0\xff~\x7f lr\0', 0x4000_FF00),),
            {(' "\\x5c\\x0a\\x00\\xff~\\x7f lr', "0x4000ff00", "0x4000ff00")},
        ),
    ],
    ids=["none", "two", "odd bytes"],
)
def test_every_signature_is_shown(hypervisors: tuple[SignatureLeaf, ...], expected: set[tuple[str, ...]]) -> None:
    r"""Base and highest leaf are hexadecimal; in the signature a backslash and non-printable bytes are ``\xNN``."""
    found = scrape(sample_of({0: Leaves(hypervisor_bit=True, hypervisors=hypervisors)}))
    assert found.values("kvm_signature_info", "signature", "base", "max_leaf") == dict.fromkeys(expected, 1)


def test_each_assigned_bit_is_a_gauge() -> None:
    """Each assigned bit is 1 or 0, hints included."""
    found = offered(scrape(sample_of({0: guest(0x0100007B, 1)})))
    assert found.keys() == {(feature.register, str(feature.bit), feature.name) for feature in FEATURES}
    assert {name for (_, _, name), value in found.items() if value} == {
        *("clocksource", "nop_io_delay", "clocksource2", "async_pf", "steal_time", "pv_eoi"),
        *("clocksource_stable_bit", "hints_realtime"),
    }


def test_an_unassigned_bit_is_a_gauge_while_it_is_set() -> None:
    """A set unassigned bit is named by its number; it is 0 if only a divergent CPU has it."""
    found = scrape(sample_of({0: guest(0xC0000000), 1: guest(0xC0000000), 2: guest(0x80000000, 0x20)}))
    assert {key: value for key, value in offered(found).items() if "_bit_" in key[2] and key[1] != "24"} == {
        ("eax", "30", "eax_bit_30"): 1,
        ("eax", "31", "eax_bit_31"): 1,
        ("edx", "5", "edx_bit_5"): 0,
    }
    cpus = found.values("kvm_feature_offered_cpus", *BIT_LABELS)
    assert {key: value for key, value in cpus.items() if value} == {
        ("eax", "30", "eax_bit_30"): 2,
        ("eax", "31", "eax_bit_31"): 3,
        ("edx", "5", "edx_bit_5"): 1,
    }


@pytest.mark.parametrize("name", ["kvm_feature_offered", "kvm_feature_offered_cpus"])
def test_the_signature_is_a_label_of_each_feature(name: str) -> None:
    """Each feature has the label signature, without trailing NULs, because it determines the meaning of the bits."""
    assert {signature for (signature, _, _) in scrape(complete()).values(name, "signature", "register", "bit")} == {
        "KVMKVMKVM"
    }


def test_cpus_are_counted_for_each_feature() -> None:
    """Sampled and retained CPUs are counted per feature; the offered value is that of the common leaves."""
    found = scrape(
        sample_of({0: DEFAULT, 1: ALL, 2: ALL, 3: NO_KVM}, retained={4: ALL}, failed={5: "held"}, skipped=[6])
    )
    assert found.value("kvm_feature_offered", feature="steal_time") == 1
    assert found.value("kvm_feature_offered_cpus", feature="steal_time") == 4
    assert found.value("kvm_feature_offered_cpus", feature="pv_unhalt") == 3
    assert found.value("kvm_feature_offered_cpus", feature="mmu_op") == 0


def test_a_signature_without_a_feature_leaf_offers_nothing() -> None:
    """Without a feature leaf all features are 0, and the CPU has no register series."""
    found = scrape(sample_of({0: guest(0xFFFF_FFFF, max_leaf=1)}), per_cpu_features=True)
    assert offered(found) == {(feature.register, str(feature.bit), feature.name): 0 for feature in FEATURES}
    assert not found.names & {"kvm_cpu_register", "kvm_cpu_feature_offered"}


@pytest.mark.parametrize("leaves", [NO_KVM, Leaves(hypervisor_bit=False)], ids=["hypervisor", "bare metal"])
def test_without_kvm_there_is_no_feature(leaves: Leaves) -> None:
    """Without KVM only presence and the CPU counts exist."""
    found = scrape(sample_of({0: leaves, 1: leaves}), per_cpu_features=True)
    assert found.names == {"kvm_present", "kvm_cpus_online", "kvm_cpus", "kvm_cpus_divergent"}
    assert "kvm_feature_offered" not in found.text


def test_a_cpu_that_lacks_kvm_has_no_register() -> None:
    """A CPU without KVM has no register series, because a 0 would mean that the leaf exists."""
    found = scrape(sample_of({0: ALL, 1: ALL, 2: NO_KVM}), per_cpu_features=True)
    assert {cpu for (cpu, _) in found.values("kvm_cpu_register", "cpu", "register")} == {"0", "1"}
    assert {cpu for (cpu, *_) in found.values("kvm_cpu_feature_offered", "cpu", *BIT_LABELS)} == {"0", "1"}


def test_registers_are_shown_for_every_cpu_that_is_known() -> None:
    """Each sampled and retained CPU has EAX and EDX as numbers, with the leaf as a label."""
    found = scrape(
        sample_of({0: guest(0x0100007B, 1, base=0x4000_0100)}, retained={7: guest(0xFFFF_FFFF, base=0x4000_0100)})
    )
    assert found.values("kvm_cpu_register", "cpu", "leaf", "register") == {
        ("0", "0x40000101", "eax"): 0x0100007B,
        ("0", "0x40000101", "edx"): 1,
        ("7", "0x40000101", "eax"): 0xFFFF_FFFF,
        ("7", "0x40000101", "edx"): 0,
    }


def test_features_of_each_cpu_are_shown_only_when_asked_for() -> None:
    """Per-CPU features, 19 or more series per CPU, exist on request only; an unassigned bit exists where it is set."""
    sample = sample_of({0: DEFAULT, 1: guest(0x4100007B)})
    assert "kvm_cpu_feature_offered" not in scrape(sample).text
    found = scrape(sample, per_cpu_features=True).values("kvm_cpu_feature_offered", "cpu", *BIT_LABELS)
    default = {0, 1, 3, 4, 5, 6, 24}
    assert {key[:3] for key, value in found.items() if value} == {
        *(("0", "eax", str(bit)) for bit in default),
        *(("1", "eax", str(bit)) for bit in default | {30}),
    }
    assert [cpu for (cpu, *_) in found] == ["0"] * len(FEATURES) + ["1"] * (len(FEATURES) + 1)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (sample_of({0: ALL}), {"sampled": 1, "retained": 0, "skipped": 0, "failed": 0}),
        (
            sample_of(
                {0: ALL, 1: ALL, 2: ALL}, retained={3: ALL, 4: ALL}, skipped=[5], failed=dict.fromkeys(range(6, 10), "")
            ),
            {"sampled": 3, "retained": 2, "skipped": 1, "failed": 4},
        ),
    ],
)
def test_cpus_have_one_state_each(sample: Sample, expected: Mapping[str, int]) -> None:
    """All four states always exist, and their sum is the number of online CPUs."""
    found = scrape(sample)
    assert found.values("kvm_cpus", "state") == {(state,): count for state, count in expected.items()}
    assert found.value("kvm_cpus_online") == sum(expected.values())


@pytest.mark.parametrize(("sampled", "expected"), [({0: ALL}, 0), ({0: ALL, 1: DEFAULT, 2: ALL, 3: NO_KVM}, 2)])
def test_divergent_cpus_are_counted(sampled: Mapping[int, Leaves], expected: int) -> None:
    """Sampled CPUs that differ from the common leaves are counted, whatever the difference."""
    assert scrape(sample_of(sampled, retained={9: DEFAULT})).value("kvm_cpus_divergent") == expected


def test_where_no_cpu_could_be_read_no_series_is_of_a_cpu() -> None:
    """Registers of retained CPUs would be old, and no CPU that was visited confirms them."""
    unread = sample_of({}, anywhere=ALL, retained={1: ALL}, failed={0: "held"})
    names = {"kvm_cpu_register", "kvm_cpus_divergent"}
    assert scrape(unread).names >= names
    assert not scrape(replace(unread, reached=False)).names & names


def test_the_fingerprint_is_that_of_the_common_leaves() -> None:
    """There is one series, and it is equal on machines with the same feature set."""
    found = scrape(sample_of({0: DEFAULT, 1: ALL, 2: ALL}))
    assert found.values("kvm_fingerprint_info", "fingerprint") == {("a56f971aee6ec7ef",): 1}


@pytest.mark.parametrize(
    ("timing", "expected"),
    [
        (
            Registers(2_599_997, 1_000_000, 0, 0),
            {"kvm_tsc_frequency_hertz": 2_599_997_000, "kvm_bus_frequency_hertz": 10**9},
        ),
        (Registers(2_599_997, 0, 0, 0), {"kvm_tsc_frequency_hertz": 2_599_997_000}),
        (Registers(0, 1_000_000, 0, 0), {"kvm_bus_frequency_hertz": 10**9}),
        (Registers(0, 0, 0, 0), {}),
        (None, {}),
    ],
    ids=["QEMU", "no bus", "no TSC", "zeros", "no leaf"],
)
def test_frequencies_are_in_hertz(timing: Registers | None, expected: Mapping[str, int]) -> None:
    """The frequencies are converted from kHz, and absent without the leaf, or where it leaves one 0."""
    found = scrape(sweep(Machine({0: reader(kvm_rows(1, timing=timing))}), CpuSelection(), None))
    assert {name: found.value(name) for name in found.names if name.endswith("_hertz")} == expected


@pytest.mark.parametrize(
    ("rows", "page", "expected"),
    [
        (kvm_rows(1), pvclock_page(), {"kvm_clock_stable": 1, "kvm_clock_tsc_frequency_hertz": 2_600_000_000}),
        (kvm_rows(1), pvclock_page(flags=0), {"kvm_clock_stable": 0, "kvm_clock_tsc_frequency_hertz": 2_600_000_000}),
        (kvm_rows(1), pvclock_page(version=1), {}),
        (kvm_rows(1), None, {}),
        (XEN, pvclock_page(), {}),
    ],
    ids=["stable", "unstable", "not to be believed", "no page", "Xen's"],
)
def test_the_pvclock_page_is_served(rows: Rows, page: bytes | None, expected: Mapping[str, int]) -> None:
    """Flag and frequency are those of the page, and absent without a page of KVM's that can be believed."""
    machine = Machine({0: reader(rows)})
    machine.page = page
    found = scrape(sweep(machine, CpuSelection(), None))
    assert {name: found.value(name) for name in found.names if name.startswith("kvm_clock_")} == expected


@pytest.mark.parametrize(
    ("now", "kept"),
    [
        (guest(0x0100_0008, 1), {("eax", "4"): 0, ("eax", "30"): 0, ("edx", "5"): 0}),
        (NO_KVM, {("eax", "3"): 0, ("eax", "4"): 0, ("eax", "30"): 0, ("edx", "5"): 0}),
        (guest(0x4000_0018, 0x20), {("eax", "3"): 1, ("eax", "4"): 1, ("eax", "30"): 1, ("edx", "5"): 1}),
    ],
    ids=["lost", "KVM gone", "as before"],
)
def test_a_bit_of_the_boot_reference_stays(now: Leaves, kept: Mapping[tuple[str, str], int]) -> None:
    """A lost bit of the boot reference stays as 0, because an alert needs a series; likewise if KVM vanishes."""
    found = scrape(sample_of({0: now}), reference=guest(0x4000_0018, 0x20))
    for (register, bit), value in kept.items():
        assert found.value("kvm_feature_offered", register=register, bit=bit, signature="KVMKVMKVM") == value
        assert found.value("kvm_feature_offered_cpus", register=register, bit=bit, signature="KVMKVMKVM") == value
    shown = {(feature.register, str(feature.bit)) for feature in FEATURES} if now.kvm else set()
    assert {key[:2] for key in offered(found)} == shown | kept.keys()


@given(WORDS, WORDS, st.one_of(st.none(), st.builds(guest, WORDS, WORDS)), st.booleans())
def test_a_bit_has_one_series_in_each_family(eax: int, edx: int, boot: Leaves | None, present: bool) -> None:  # noqa: FBT001
    """Each register and bit, and each feature name, has one series per family, whatever the reference has."""
    sample = sample_of({0: guest(eax, edx) if present else NO_KVM, 1: guest(edx, eax)})
    for family in machine_families(sample, boot, per_cpu_features=True):
        if "feature" in CATALOGUE[family.name][1]:
            by_place = [(s.labels.get("cpu"), s.labels["register"], s.labels["bit"]) for s in family.samples]
            by_name = [(s.labels.get("cpu"), s.labels["feature"]) for s in family.samples]
            assert len(set(by_place)) == len(set(by_name)) == len(family.samples)


@pytest.mark.parametrize("cpus", [1, 2, 64, 4096])
@pytest.mark.parametrize(
    ("eax", "unassigned"), [(0x01007EFB, 0), (0xC1007EFB, 2)], ids=["mainline", "two unassigned bits"]
)
def test_a_machine_has_nine_series_and_two_a_feature_and_two_a_cpu(cpus: int, eax: int, unassigned: int) -> None:
    """The number of series is 47 plus two per CPU and two per unassigned bit; per-CPU features add 19 per CPU."""
    sample, features = sample_of(dict.fromkeys(range(cpus), guest(eax))), len(FEATURES) + unassigned
    assert number_of_series(machine_families(sample)) == 9 + 2 * features + 2 * cpus
    per_cpu = number_of_series(machine_families(sample, per_cpu_features=True))
    assert per_cpu == 9 + 2 * features + (2 + features) * cpus
