"""kvm_exporter.report.table: the table in the terminal, comparisons, and the JSON for scripts."""

import json
from dataclasses import replace

import pytest

from kvm_exporter.collector.boot import BootReference
from kvm_exporter.collector.conditions import Answer, Use
from kvm_exporter.collector.observer import Collected, Observation
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.cpuid.registers import Registers
from kvm_exporter.kvm.clock import PvClock
from kvm_exporter.kvm.drift import Difference, TscChange, difference
from kvm_exporter.kvm.features import FEATURES, feature_named
from kvm_exporter.kvm.leaves import Kvm, Leaves, SignatureLeaf
from kvm_exporter.kvm.words import describe, divergence, summary
from kvm_exporter.report.kinds import FEATURE_GAINED
from kvm_exporter.report.table import WIDTH, as_json, table
from lab.readers import BASE, Machine, guest, kvm_rows, reader, sample_of

DEFAULT, ALL, OLD = guest(0x0100007B), guest(0x01007EFB), guest(0x0100000B)
BARE_METAL, HIDDEN = Leaves(hypervisor_bit=False), Leaves(hypervisor_bit=True)
HYPERV = SignatureLeaf(BASE, b"Microsoft Hv", BASE + 5)
BESIDE_HYPERV = guest(0x01007EFB, base=0x4000_0100)
TWO_NAMES = Leaves(hypervisor_bit=True, hypervisors=(HYPERV, *BESIDE_HYPERV.hypervisors), kvm=BESIDE_HYPERV.kvm)


@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        (ALL, "KVM at 0x40000000, features EAX 0x01007efb, EDX 0x00000000, fingerprint a56f971aee6ec7ef"),
        (
            guest(0x0100007B, 1, base=0x4000_0100),
            "KVM at 0x40000100, features EAX 0x0100007b, EDX 0x00000001, fingerprint 671fa1834330d3c4",
        ),
        (TWO_NAMES, "KVM at 0x40000100, features EAX 0x01007efb, EDX 0x00000000, fingerprint ea8ad771a49f8e27"),
        (
            Leaves(hypervisor_bit=True, hypervisors=(HYPERV,)),
            "no KVM: hypervisor signature 'Microsoft Hv' at 0x40000000",
        ),
        (
            Leaves(hypervisor_bit=True, hypervisors=(HYPERV, SignatureLeaf(0x4000_0100, b"XenVMMXenVMM", 0))),
            "no KVM: hypervisor signature 'Microsoft Hv' at 0x40000000, 'XenVMMXenVMM' at 0x40000100",
        ),
        (HIDDEN, "no KVM: a hypervisor is present, but has no signature"),
        (BARE_METAL, "no KVM: no hypervisor bit in leaf 1 (bare metal, or hidden)"),
    ],
)
def test_a_summary_is_one_line_that_says_what_was_found(leaves: Leaves, expected: str) -> None:
    """The summary names KVM with its registers, another hypervisor by its signature, or the absence of both."""
    assert summary(leaves) == expected


YES = Use(Answer.YES, "offered at boot")

LIVE = Observation(
    sample=sample_of(
        {0: ALL, 1: DEFAULT, 2: ALL, 3: guest(0x81007EFB)},
        retained={4: ALL},
        skipped=[5, 6],
        failed={8: "held", 7: "gone"},
        clock=PvClock(stable=True, tsc_khz=2_600_000),
    ),
    in_use={
        feature_named("steal_time"): YES,
        feature_named("pv_eoi"): YES,
        feature_named("pv_unhalt"): Use(Answer.NO, "one possible CPU"),
        feature_named("msi_ext_dest_id"): Use(Answer.NOTHING, "not offered at boot"),
    },
    host=Kvm(BASE, 0x01007AFB, 0),
    collectors={"guest": Collected(success=True, duration=0.1)},
)


LACKING = (
    "lacks pv_unhalt (eax bit 7), pv_tlb_flush (eax bit 9), async_pf_vmexit (eax bit 10), pv_send_ipi (eax bit 11), "
    "poll_control (eax bit 12), pv_sched_yield (eax bit 13), async_pf_int (eax bit 14)"
)
"""The features that QEMU's default lacks, compared with those of mainline KVM."""


OF_INTEREST = {
    *("steal_time", "pv_eoi", "pv_unhalt", "pv_tlb_flush", "async_pf_vmexit", "pv_send_ipi", "poll_control"),
    *("pv_sched_yield", "async_pf_int", "msi_ext_dest_id", "hc_map_gpa_range", "migration_control"),
    *("clocksource_stable_bit", "eax_bit_31", "hints_realtime"),
}


def test_the_table_of_a_machine() -> None:
    """The table has each bit with its value, CPUs, use and host; divergent and failed CPUs follow."""
    lines = table(LIVE).splitlines()
    assert lines[:6] == [
        "KVM at 0x40000000, features EAX 0x01007efb, EDX 0x00000000, fingerprint a56f971aee6ec7ef",
        "  signature KVMKVMKVM at 0x40000000, highest leaf 0x40000001",
        "  kvm-clock stable, TSC 2600.000 MHz",
        "",
        "BIT     FEATURE                 OFFERED   CPUS  USED OWN KVM MEANING",
        "eax 0   clocksource             yes          5  ?    yes     kvmclock at the old MSRs 0x11 and 0x12",
    ]
    end = lines.index("", 5)
    assert end - 5 == len(FEATURES) + 1
    shown = [" ".join(line.split()[:7]) for line in lines[5:end]]
    assert [line for line in shown if line.split()[2] in OF_INTEREST] == [
        "eax 5 steal_time yes 5 yes yes",
        "eax 6 pv_eoi yes 5 yes yes",
        "eax 7 pv_unhalt yes 4 no yes",
        "eax 9 pv_tlb_flush yes 4 ? yes",
        "eax 10 async_pf_vmexit yes 4 ? no",
        "eax 11 pv_send_ipi yes 4 ? yes",
        "eax 12 poll_control yes 4 ? yes",
        "eax 13 pv_sched_yield yes 4 ? yes",
        "eax 14 async_pf_int yes 4 ? yes",
        "eax 15 msi_ext_dest_id no 0 - ?",
        "eax 16 hc_map_gpa_range no 0 ? ?",
        "eax 17 migration_control no 0 ? ?",
        "eax 24 clocksource_stable_bit yes 5 ? yes",
        "eax 31 eax_bit_31 no 1 ? ?",
        "edx 0 hints_realtime no 0 ? ?",
    ]
    assert lines[end:] == [
        "",
        "USED, and why:",
        "  yes (offered at boot): steal_time, pv_eoi",
        "  no (one possible CPU): pv_unhalt",
        "",
        "CPUs: 9 online, 4 sampled, 1 retained, 2 skipped, 2 failed",
        f"CPU 1 differs: {LACKING}",
        "CPU 3 differs: has eax_bit_31 (eax bit 31)",
        "CPU 7 failed: gone",
        "CPU 8 failed: held",
    ]


@pytest.mark.parametrize("observation", [LIVE, Observation(sample_of({0: ALL}))], ids=["machine", "dump"])
def test_the_table_fits_a_terminal(observation: Observation) -> None:
    """In a terminal of 80 columns no line is wider, and only the column of meanings is missing."""
    everything, fitting = table(observation), table(observation, WIDTH)
    assert max(map(len, fitting.splitlines())) <= WIDTH
    meanings = [feature.meaning for feature in observation.sample.features]
    shorter = everything
    for meaning in (*meanings, "MEANING"):
        shorter = shorter.replace(meaning, "", 1)
    assert fitting.split() == shorter.split()
    assert table(observation, 500) == everything


def test_what_does_not_work_any_more_is_no_bare_yes() -> None:
    """The table and the JSON have the whole answer; the lines with reasons fit a terminal."""
    reason = "not offered when first sampled, 200 days after boot"
    broken, unknown = Use(Answer.BROKEN, "not offered now"), Use(Answer.UNKNOWN, reason)
    in_use = {**dict.fromkeys(FEATURES, unknown), feature_named("steal_time"): broken, FEATURES[0]: YES}
    observation = replace(LIVE, sample=sample_of({0: guest(0x01007EDB)}), in_use=in_use)
    lines = table(observation).splitlines()
    [row] = [line for line in lines if line.startswith("eax 5 ")]
    assert row.split("steal_time ")[1].split()[:8] == [
        *("no", "0"),
        *["enabled,", "does", "not", "work", "any", "more"],
    ]
    [head] = [line for line in lines if line.startswith("BIT ")]
    assert head.index("MEANING") == row.index("steal time can be enabled")
    start = lines.index("USED, and why:")
    reasons = lines[start + 1 : lines.index("", start)]
    assert reasons[0] == "  yes (offered at boot): clocksource"
    assert reasons[1].startswith(f"  ? ({reason}):")
    assert reasons[-1] == "  enabled, does not work any more (not offered now): steal_time"
    assert max(map(len, reasons)) <= WIDTH
    [found] = [one for one in json.loads(as_json(observation))["features"] if one["name"] == "steal_time"]
    assert (found["in_use"], found["in_use_reason"]) == (True, "enabled, does not work any more: not offered now")


def test_the_table_of_a_dump_says_nothing_of_kernel_and_host() -> None:
    """The table of a dump has no columns for the kernel and the host, because these are unknown."""
    lines = table(Observation(sample_of({0: ALL}))).splitlines()
    assert lines[3] == "BIT     FEATURE                 OFFERED   CPUS  MEANING"
    assert lines[4] == "eax 0   clocksource             yes          1  kvmclock at the old MSRs 0x11 and 0x12"


def test_the_table_shows_frequencies_where_there_are_any() -> None:
    """Frequencies are given in MHz."""
    rows = kvm_rows(0x0100007B, timing=Registers(2_599_997, 1_000_000, 0, 0))
    lines = table(Observation(sweep(Machine({0: reader(rows)}), CpuSelection(), None))).splitlines()
    assert lines[1:3] == [
        "  signature KVMKVMKVM at 0x40000000, highest leaf 0x40000010",
        "  TSC 2599.997 MHz, APIC bus 1000.000 MHz",
    ]


@pytest.mark.parametrize(
    ("leaves", "head"),
    [
        (BARE_METAL, ["no KVM: no hypervisor bit in leaf 1 (bare metal, or hidden)"]),
        (
            Leaves(hypervisor_bit=True, hypervisors=(HYPERV,)),
            [
                "no KVM: hypervisor signature 'Microsoft Hv' at 0x40000000",
                "  signature Microsoft Hv at 0x40000000, highest leaf 0x40000005",
            ],
        ),
    ],
)
def test_without_kvm_the_table_has_no_features(leaves: Leaves, head: list[str]) -> None:
    """Without KVM the table has only what was found, and the CPUs."""
    assert table(Observation(sample_of({0: leaves}))).splitlines() == [*head, "", "CPUs: 1 online, 1 sampled"]


NOTHING = (
    "lacks clocksource (eax bit 0), nop_io_delay (eax bit 1), clocksource2 (eax bit 3), "
    "clocksource_stable_bit (eax bit 24)"
)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (guest(0x0100000A, 1), "lacks clocksource (eax bit 0); has hints_realtime (edx bit 0)"),
        (guest(0x4100000B), "has eax_bit_30 (eax bit 30)"),
        (HIDDEN, f"{NOTHING}; a hypervisor without a signature instead of KVMKVMKVM at 0x40000000"),
        (BARE_METAL, f"{NOTHING}; no hypervisor bit instead of KVMKVMKVM at 0x40000000"),
        (guest(0x0100000B, base=0x4000_0100), "KVMKVMKVM at 0x40000100 instead of KVMKVMKVM at 0x40000000"),
    ],
)
def test_a_cpu_that_differs_is_described(other: Leaves, expected: str) -> None:
    """The description lists what a CPU lacks, what it has beyond the others, and a different signature."""
    assert divergence(sample_of({0: OLD, 1: OLD, 2: other}), 2) == expected


def test_a_cpu_whose_only_difference_is_a_name_is_described() -> None:
    """A CPU that differs by a signature alone is described by its signatures."""
    assert divergence(sample_of({0: TWO_NAMES, 1: BESIDE_HYPERV}), 1) == (
        "KVMKVMKVM at 0x40000100 instead of Microsoft Hv at 0x40000000 and KVMKVMKVM at 0x40000100"
    )


def test_a_difference_in_words() -> None:
    """A difference is described in words, its TSC frequency last."""
    change = difference(ALL, guest(0x0100007B, 1))
    assert describe(change, ALL, DEFAULT).startswith("lost pv_unhalt (eax bit 7), ")
    assert describe(change, ALL, DEFAULT).endswith("; gained hints_realtime (edx bit 0)")
    assert describe(Difference(tsc=TscChange(2_599_997, None)), ALL, ALL) == (
        "TSC frequency no longer reported by KVM (2599.997 MHz before)"
    )
    assert describe(Difference(tsc=TscChange(None, 2_599_997)), ALL, ALL) == (
        "TSC frequency newly reported by KVM (2599.997 MHz)"
    )


def test_json_has_what_the_table_has() -> None:
    """JSON has the values of the table; an unknown value is null."""
    value = json.loads(as_json(LIVE))
    features = {feature.pop("name"): feature for feature in value.pop("features")}
    findings = {finding["kind"]: finding for finding in value.pop("findings")}
    assert findings.keys() == {"cpus_differ", "cpus_unread"}
    assert findings["cpus_differ"]["details"] == [f"CPU 1: {LACKING}", "CPU 3: has eax_bit_31 (eax bit 31)"]
    assert value == {
        "kvm": True,
        "hypervisor_bit": True,
        "hypervisors": [{"signature": "KVMKVMKVM", "base": "0x40000000", "max_leaf": "0x40000001"}],
        "base": "0x40000000",
        "eax": "0x01007efb",
        "edx": "0x00000000",
        "fingerprint": "a56f971aee6ec7ef",
        "tsc_khz": None,
        "bus_khz": None,
        "clock": {"stable": True, "tsc_khz": 2_600_000},
        "cpus": {
            "online": 9,
            "sampled": [0, 1, 2, 3],
            "retained": [4],
            "skipped": [5, 6],
            "failed": {"7": "gone", "8": "held"},
        },
        "divergent": [
            {
                "cpu": 1,
                "summary": summary(DEFAULT),
                "difference": LACKING,
                "lacks": [
                    "pv_unhalt",
                    "pv_tlb_flush",
                    "async_pf_vmexit",
                    "pv_send_ipi",
                    "poll_control",
                    "pv_sched_yield",
                    "async_pf_int",
                ],
                "has": [],
            },
            {
                "cpu": 3,
                "summary": summary(guest(0x81007EFB)),
                "difference": "has eax_bit_31 (eax bit 31)",
                "lacks": [],
                "has": ["eax_bit_31"],
            },
        ],
        "boot_reference": None,
    }
    assert len(features) == len(FEATURES) + 1
    assert features["steal_time"] == {
        "register": "eax", "bit": 5, "offered": True, "cpus": 5,
        "in_use": True, "in_use_reason": "offered at boot", "host": True,
        "host_setting": {"qemu": "kvm-steal-time=off", "libvirt": None, "causes": []},
    }  # fmt: skip
    assert features["pv_unhalt"] == {
        "register": "eax", "bit": 7, "offered": True, "cpus": 4,
        "in_use": False, "in_use_reason": "one possible CPU", "host": True,
        "host_setting": {
            "qemu": "kvm-pv-unhalt=off",
            "libvirt": "<features><pvspinlock state='off'/></features>",
            "causes": [],
        },
    }  # fmt: skip
    assert features["hints_realtime"] == {
        "register": "edx", "bit": 0, "offered": False, "cpus": 0,
        "in_use": None, "in_use_reason": None, "host": None,
        "host_setting": {
            "qemu": "kvm-hint-dedicated=on",
            "libvirt": "<features><kvm><hint-dedicated state='on'/></kvm></features>",
            "causes": [],
        },
    }  # fmt: skip


def test_json_has_frequencies_where_there_are_any() -> None:
    """Frequencies are in kHz, as they were read."""
    rows = kvm_rows(0x0100007B, timing=Registers(2_599_997, 1_000_000, 0, 0))
    value = json.loads(as_json(Observation(sweep(Machine({0: reader(rows)}), CpuSelection(), None))))
    assert (value["tsc_khz"], value["bus_khz"]) == (2_599_997, 1_000_000)


def test_json_without_kvm() -> None:
    """Without KVM the keys are the same, and their values are null or empty."""
    value = json.loads(as_json(Observation(sample_of({0: BARE_METAL}))))
    assert value == {
        "kvm": False,
        "hypervisor_bit": False,
        "hypervisors": [],
        "base": None,
        "eax": None,
        "edx": None,
        "fingerprint": None,
        "tsc_khz": None,
        "bus_khz": None,
        "clock": None,
        "features": [],
        "cpus": {"online": 1, "sampled": [0], "retained": [], "skipped": [], "failed": {}},
        "divergent": [],
        "boot_reference": None,
        "findings": [
            {
                "kind": "no_kvm",
                "level": "note",
                "what": "no KVM",
                "details": [
                    "No hypervisor bit in leaf 1 (bare metal, or hidden)",
                    "This is not an error: only KVM has these features.",
                ],
                "since": None,
                "evidence": "the signatures at all 256 bases",
                "follows": "This is not an error: only KVM has these features.",
                "action": "Nothing, unless KVM was expected here.",
                "effects": [],
            }
        ],
    }


SINCE = "since first sampled, 200 days after boot"


def test_what_changed_since_the_boot_reference_is_shown() -> None:
    """Where there is a reference each feature has its change, and findings follow below the CPUs."""
    reference = BootReference(guest(0x01007EFB), 1704067100.0, 200 * 86_400.0, changed=1704067150.0, change="lost x")
    now = Observation(sample_of({0: guest(0x0100_7EDB | 1 << 15)}), reference)
    lines = table(now).splitlines()
    assert f"  boot reference: the first sample of this boot, 2023-12-31T23:58:20Z; changes {SINCE}" in lines
    [head] = [line for line in lines if line.startswith("BIT")]
    assert head.split() == ["BIT", "FEATURE", "OFFERED", "CPUS", "CHANGE", "MEANING"]
    changed = {line.split()[2]: line.split()[5] for line in lines if line.startswith(("eax", "edx"))}
    assert {name: word for name, word in changed.items() if word != "same"} == {
        "steal_time": "lost",
        "msi_ext_dest_id": "gained",
    }
    lost, gained = now.effects
    assert lines[-6:] == [
        f"CRITICAL: Lost {SINCE}: steal_time (eax bit 5)",
        f"  steal_time (corrupts): {lost.text}",
        f"  do: {lost.action}",
        f"NOTE: Gained {SINCE}: msi_ext_dest_id (eax bit 15)",
        f"  msi_ext_dest_id (harmless): {gained.text}",
        f"  do: {FEATURE_GAINED.action}",
    ]
    value = json.loads(as_json(now))
    assert value["boot_reference"] == {
        "timestamp": 1704067100.0,
        "uptime": 200 * 86_400.0,
        "late": True,
        "tsc_khz": None,
        "changed": 1704067150.0,
        "change": "lost x",
    }
    assert [(finding["kind"], finding["since"]) for finding in value["findings"]][:2] == [
        ("feature_lost_dangerous", 1704067150.0),
        ("feature_gained", 1704067150.0),
    ]
    [effect] = value["findings"][0]["effects"]
    assert (effect["feature"], effect["severity"], effect["action"]) == ("steal_time", "corrupts", lost.action)
