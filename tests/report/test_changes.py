"""kvm_exporter.report.changes: message, level and fields of logged changes, and the journal's message catalog."""

import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from kvm_exporter.app.log import JsonFormatter, LogfmtFormatter
from kvm_exporter.app.systemd import journal_fields
from kvm_exporter.collector.boot import BootReference
from kvm_exporter.collector.conditions import Answer, Use
from kvm_exporter.collector.observer import Observation
from kvm_exporter.kvm.drift import changes
from kvm_exporter.kvm.effects import NOTHING, Level, action
from kvm_exporter.kvm.features import feature_named
from kvm_exporter.kvm.leaves import Leaves, Timing
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import summary
from kvm_exporter.report.changes import BOOT_DRIFT_ID, CHANGE_ID, USED_ID, announce
from kvm_exporter.report.kinds import FREQUENCY, LEAVES, USED_NOT_OFFERED
from lab.readers import guest, kvm_of, sample_of

USED = Use(Answer.BROKEN, "not offered now")
ALL = guest(0x01007EFB)
#: Without steal time and the stable clock, and with an unassigned bit.
LESS = guest(0x4000_7EDB)
STOLEN = guest(0x01007EDB)
MOVED = guest(0x01007EFB, base=0x4000_0100)
NO_KVM = Leaves(hypervisor_bit=True)
BARE_METAL = Leaves(hypervisor_bit=False)

CHANGED = "the feature set changed"
SINCE_BOOT = "the feature set has changed since boot"

STEAL = "steal_time (eax bit 5)"
OUT_OF_SERVICE = action("lost", Level.CRITICAL)

TAKEN = "2024-01-01T00:00:00Z"
"""The time of the samples."""


@pytest.fixture(autouse=True)
def _everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def fields(record: logging.LogRecord) -> Any:  # noqa: ANN401 - as the log has them
    """Return the fields of a log record."""
    return record.__dict__["fields"]


def change(earlier: Sample, later: Sample) -> None:
    """Announce one observation after another."""
    announce(Observation(earlier), Observation(later, changes=changes(earlier, later)))


def start(reference: Leaves | None, now: Sample) -> None:
    """Announce the first observation of an exporter that has this reference."""
    announce(None, Observation(now, BootReference(reference, 1704067100.0, 20.0) if reference is not None else None))


@pytest.mark.parametrize(
    ("before", "after", "level", "words"),
    [
        (ALL, STOLEN, "ERROR", f"lost {STEAL}"),
        (guest(0x20), guest(0), "WARNING", f"lost {STEAL}"),
        (guest(1 << 24), guest(0), "INFO", "lost clocksource_stable_bit (eax bit 24)"),
        (guest(0), guest(1 << 14), "WARNING", "gained async_pf_int (eax bit 14)"),
        (STOLEN, ALL, "INFO", f"gained {STEAL}"),
        (
            ALL,
            LESS,
            "ERROR",
            f"lost {STEAL}, clocksource_stable_bit (eax bit 24); gained eax_bit_30 (eax bit 30)",
        ),
        (ALL, MOVED, "WARNING", "KVMKVMKVM at 0x40000100 instead of KVMKVMKVM at 0x40000000"),
        (
            guest(0x20),
            NO_KVM,
            "WARNING",
            f"lost {STEAL}; a hypervisor without a signature instead of KVMKVMKVM at 0x40000000",
        ),
        (
            BARE_METAL,
            guest(0x20),
            "WARNING",
            f"gained {STEAL}; KVMKVMKVM at 0x40000000 instead of no hypervisor bit",
        ),
        (guest(0), guest(0, 1), "INFO", "gained hints_realtime (edx bit 0)"),
    ],
    ids=[
        *("memory is at stake", "lost", "lost, harmless", "gained, risky", "gained", "both", "moved", "vanished"),
        *("appeared", "hint"),
    ],
)
def test_a_change_is_told(
    caplog: pytest.LogCaptureFixture, before: Leaves, after: Leaves, level: str, words: str
) -> None:
    """The level is that of the worst effect; the CPUs are named for changes between samples only."""
    change(sample_of({0: before, 1: before}), sample_of({0: after, 1: after}))
    start(before, sample_of({0: after}))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        (level, f"{CHANGED} on CPU 0-1: {words}"),
        (level, f"{SINCE_BOOT}: {words}"),
    ]


def test_cpus_that_cannot_be_read_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """CPUs that cannot be read are logged once per reason, and again when they can be read."""
    failing = sample_of({0: ALL}, failed={3: "held", 1: "offline", 2: "held"})
    start(None, failing)
    change(failing, failing)
    change(failing, sample_of({0: ALL, 1: ALL, 3: ALL}, failed={2: "held"}))
    assert [(record.levelname, record.message, fields(record)) for record in caplog.records] == [
        ("WARNING", "CPU 1 cannot be read: offline", {"kvm_cpu": ("1",)}),
        ("WARNING", "CPU 2-3 cannot be read: held", {"kvm_cpu": ("2", "3")}),
        ("INFO", "CPU 1,3 can be read again", {"kvm_cpu": ("1", "3")}),
    ]


def test_a_cpu_that_comes_with_other_leaves_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """It changes nothing between two samples of the same CPU."""
    uneven = sample_of({0: ALL, 1: ALL, 2: STOLEN})
    change(sample_of({0: ALL, 1: ALL}), uneven)
    change(uneven, uneven)
    change(sample_of({0: ALL, 1: ALL}, retained={2: STOLEN}), uneven)
    [record] = caplog.records
    assert (record.levelname, record.message) == ("WARNING", "CPU 2 differs: lacks steal_time (eax bit 5)")
    assert fields(record)["kvm_cpu"] == ("2",)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (sample_of({0: ALL, 1: STOLEN}), sample_of({0: ALL, 1: STOLEN})),
        (sample_of({0: ALL}), sample_of({0: ALL, 1: ALL})),
        (sample_of({0: ALL}, failed={1: "held"}), sample_of({0: ALL}, failed={1: "it went offline"})),
        (sample_of({0: ALL}, failed={1: "held"}), sample_of({0: ALL})),
        (sample_of({0: guest(1)}), sample_of({0: guest(1, max_leaf=0)})),
    ],
    ids=["same", "a CPU came", "a CPU fails on", "a CPU that failed left", "another highest leaf"],
)
def test_nothing_is_said_of_what_is_no_change(caplog: pytest.LogCaptureFixture, earlier: Sample, later: Sample) -> None:
    """Unchanged leaves, and CPUs that leave or come with the leaves of the others, are not logged."""
    change(earlier, later)
    assert caplog.messages == []


def test_nothing_is_said_of_a_start_like_the_boot(caplog: pytest.LogCaptureFixture) -> None:
    """A start with the leaves of the reference, or without a reference, is not logged; divergent CPUs are no drift."""
    start(ALL, sample_of({0: ALL, 1: ALL, 2: STOLEN}))
    start(None, sample_of({0: STOLEN}))
    assert caplog.messages == []


def test_after_the_start_a_change_is_held_against_the_sample_before(caplog: pytest.LogCaptureFixture) -> None:
    """After the start a sample is compared with the sample before, so that drift since boot is logged once."""
    reference = BootReference(ALL, 1704067100.0, 20.0)
    before, after = sample_of({0: STOLEN}), sample_of({0: ALL})
    announce(Observation(before, reference), Observation(before, reference))
    assert caplog.messages == []
    announce(Observation(before, reference), Observation(after, reference, changes=changes(before, after)))
    assert caplog.messages == [f"{CHANGED} on CPU 0: gained {STEAL}"]


def test_each_way_of_changing_is_told_with_its_cpus(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind of change is one record with its own CPUs and level."""
    change(
        sample_of({0: ALL, 1: ALL, 2: ALL, 5: ALL, 7: STOLEN, 8: ALL}),
        sample_of({0: STOLEN, 1: STOLEN, 2: NO_KVM, 5: STOLEN, 7: ALL, 8: ALL}),
    )
    assert [
        (record.levelname, record.message.split(": ")[0], fields(record)["kvm_cpu"]) for record in caplog.records
    ] == [
        ("ERROR", f"{CHANGED} on CPU 0-1,5", ("0", "1", "5")),
        ("ERROR", f"{CHANGED} on CPU 2", ("2",)),
        ("INFO", f"{CHANGED} on CPU 7", ("7",)),
    ]


def test_another_majority_is_a_change_on_no_cpu(caplog: pytest.LogCaptureFixture) -> None:
    """A change of the common leaves without a changed CPU is logged without CPUs."""
    change(sample_of({0: STOLEN, 1: ALL, 2: ALL}), sample_of({0: STOLEN}))
    [record] = caplog.records
    assert (record.levelname, record.message) == ("ERROR", f"{CHANGED}: lost {STEAL}")
    assert fields(record)["kvm_cpu"] == ()


def test_the_fields_of_a_change(caplog: pytest.LogCaptureFixture) -> None:
    """Features and CPUs are separate values; before and after are summaries of the first changed CPU."""
    change(sample_of({0: ALL, 1: STOLEN, 2: STOLEN, 3: ALL}), sample_of({0: ALL, 1: LESS, 2: LESS, 3: ALL}))
    [record] = caplog.records
    assert fields(record) == {
        "message_id": CHANGE_ID,
        "kvm_feature": ("clocksource_stable_bit", "eax_bit_30"),
        "kvm_lost": "clocksource_stable_bit",
        "kvm_gained": "eax_bit_30",
        "kvm_severity": "harmless",
        "kvm_action": NOTHING,
        "kvm_before": summary(STOLEN),
        "kvm_after": summary(LESS),
        "kvm_evidence": f"{LEAVES}; compared with the sample of {TAKEN}",
        "kvm_since": TAKEN,
        "kvm_cpu": ("1", "2"),
    }


def test_the_fields_of_drift_since_the_boot(caplog: pytest.LogCaptureFixture) -> None:
    """Drift since boot has the same fields except the CPUs, and its own message ID."""
    reference = BootReference(ALL, 1704067100.0, 20.0, changed=1704067150.0)
    announce(None, Observation(sample_of({0: NO_KVM, 1: NO_KVM, 2: ALL}), reference))
    [record] = caplog.records
    assert fields(record) == {
        "message_id": BOOT_DRIFT_ID,
        "kvm_feature": tuple(fields(record)["kvm_lost"].split(",")),
        "kvm_lost": "clocksource,nop_io_delay,clocksource2,async_pf,steal_time,pv_eoi,pv_unhalt,pv_tlb_flush,"
        "async_pf_vmexit,pv_send_ipi,poll_control,pv_sched_yield,async_pf_int,clocksource_stable_bit",
        "kvm_gained": "",
        "kvm_severity": "corrupts",
        "kvm_action": OUT_OF_SERVICE,
        "kvm_before": summary(ALL),
        "kvm_after": summary(NO_KVM),
        "kvm_evidence": f"{LEAVES}; compared with the boot reference of 2023-12-31T23:58:20Z, 20 seconds after boot",
        "kvm_since": "2023-12-31T23:59:10Z",
    }


def test_a_change_of_the_tsc_rests_on_the_timing_leaf(caplog: pytest.LogCaptureFixture) -> None:
    """The evidence is the leaf that was read, with its tolerance; an old reference does not say when it was taken."""
    slow, fast = (replace(ALL, kvm=replace(kvm_of(ALL), timing=Timing(khz, 0))) for khz in (2_600_000, 3_100_000))
    announce(None, Observation(sample_of({0: fast}), BootReference(slow, 1704067100.0)))
    [record] = caplog.records
    than = "compared with the boot reference of 2023-12-31T23:58:20Z"
    assert fields(record)["kvm_evidence"] == f"{FREQUENCY}, to 250 ppm; {than}"


def test_use_without_an_offer_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """It is one line when it is first known; what is lost since the reference is not repeated."""
    steal, clock = feature_named("steal_time"), feature_named("clocksource2")
    early, late = BootReference(ALL, 1704067100.0, 20.0), BootReference(STOLEN, 1704067100.0, 1e6)
    known = Observation(sample_of({0: STOLEN}), late, in_use={steal: USED, clock: USED})
    announce(Observation(sample_of({0: STOLEN}), early, in_use={steal: USED}), replace(known, reference=early))
    assert caplog.messages == []
    announce(None, known)
    announce(known, known)
    [record] = caplog.records
    assert (record.levelname, record.message) == ("WARNING", f"used, not offered: {STEAL}")
    assert fields(record) == {
        "message_id": USED_ID,
        "kvm_feature": ("steal_time",),
        "kvm_evidence": USED_NOT_OFFERED.evidence,
        "kvm_since": TAKEN,
    }


@pytest.fixture
def record(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    """A record of a change: two features lost and one gained on two CPUs."""
    change(sample_of({0: ALL, 1: ALL}), sample_of({0: LESS, 1: LESS}))
    [found] = caplog.records
    return found


def test_in_the_journal_fields_repeat(record: logging.LogRecord) -> None:
    """In the journal a field repeats for each feature and CPU, so that a match on one of them finds the record."""
    lost, gained = f"{STEAL}, clocksource_stable_bit (eax bit 24)", "eax_bit_30 (eax bit 30)"
    assert list(journal_fields(record)) == [
        f"MESSAGE={CHANGED} on CPU 0-1: lost {lost}; gained {gained}",
        "PRIORITY=3",
        "SYSLOG_IDENTIFIER=kvm-exporter",
        "LOGGER=kvm_exporter.report.changes",
        f"MESSAGE_ID={CHANGE_ID}",
        "KVM_FEATURE=steal_time",
        "KVM_FEATURE=clocksource_stable_bit",
        "KVM_FEATURE=eax_bit_30",
        "KVM_LOST=steal_time,clocksource_stable_bit",
        "KVM_GAINED=eax_bit_30",
        "KVM_SEVERITY=corrupts",
        f"KVM_ACTION={OUT_OF_SERVICE}",
        f"KVM_BEFORE={summary(ALL)}",
        f"KVM_AFTER={summary(LESS)}",
        f"KVM_EVIDENCE={LEAVES}; compared with the sample of {TAKEN}",
        f"KVM_SINCE={TAKEN}",
        "KVM_CPU=0",
        "KVM_CPU=1",
    ]


def test_as_json_they_are_joined(record: logging.LogRecord) -> None:
    """In JSON the values are joined by commas; each record is one line and each value a string."""
    found = json.loads(JsonFormatter().format(record))
    assert found["level"] == "error"
    assert (found["kvm_feature"], found["kvm_cpu"]) == ("steal_time,clocksource_stable_bit,eax_bit_30", "0,1")
    assert found["message_id"] == CHANGE_ID


def test_as_text_they_are_quoted(record: logging.LogRecord) -> None:
    """In logfmt values with spaces are quoted, and the record is one line."""
    line = LogfmtFormatter().format(record)
    assert f' kvm_before="{summary(ALL)}" ' in line
    assert line.endswith(" kvm_cpu=0,1")
    assert "\n" not in line
