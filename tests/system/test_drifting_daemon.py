"""A running daemon whose machine changes under it: what the next scrape says, what the log says, what outlives it."""

import http.client
import json
import signal
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from kvm_exporter.collector.boot import FILE_NAME, read_boot
from kvm_exporter.cpuid.dump import Rows
from kvm_exporter.kvm.effects import NOTHING, Level, action
from kvm_exporter.kvm.leaves import KVM_SIGNATURE
from kvm_exporter.report.changes import BOOT_DRIFT_ID, CHANGE_ID, USED_ID
from lab.drifting import LAZY, DriftingHost, logged
from lab.exporter import UNMEASURED, Exporter
from lab.notifications import Notifications
from lab.patience import PATIENCE_SECONDS
from lab.proc import memory
from lab.scrape import Scrape
from tests.support.rooms.layouts import AMD, kvm

ALL, STOLEN = kvm(0x0100_7EFB), kvm(0x0100_7EDB)
"""With steal time and without."""

SUMMARY_ALL = "KVM at 0x40000000, features EAX 0x01007efb, EDX 0x00000000, fingerprint a56f971aee6ec7ef"
SUMMARY_STOLEN = "KVM at 0x40000000, features EAX 0x01007edb, EDX 0x00000000, fingerprint 27db3158dfc328e0"
LOST_STEAL = "lost steal_time (eax bit 5)"

FEATURE = ("feature", "register", "bit", "signature")
STEAL_TIME = ("steal_time", "eax", "5", "KVMKVMKVM")


def on_all(rows: Rows) -> dict[int, Rows]:
    """Two CPUs alike."""
    return {0: rows, 1: rows}


@pytest.fixture
def host(tmp_path: Path) -> DriftingHost:
    """A guest of two CPUs with every feature."""
    return DriftingHost(tmp_path, on_all(ALL))


Drift = tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]


def drift(scrape: Scrape) -> Drift:
    """How many bits differ from the boot, and which."""
    return (
        scrape.values("kvm_boot_feature_changes", "change"),
        scrape.values("kvm_boot_feature_changed", *FEATURE),
    )


NO_DRIFT: Drift = ({("lost",): 0.0, ("gained",): 0.0}, {})
STEAL_TIME_LOST: Drift = ({("lost",): 1.0, ("gained",): 0.0}, {STEAL_TIME: -1.0})


def changes(scrape: Scrape) -> float:
    """How many samples differed from the one before."""
    return scrape.value("kvm_exporter_sample_changes_total")


def test_a_change_is_in_the_next_scrape(host: DriftingHost) -> None:
    """Offered, lost since the boot, counted; and all of that undone when the feature comes back."""
    with host.daemon() as running:
        before = running.scrape()
        assert (drift(before), changes(before)) == (NO_DRIFT, 0)
        assert before.value("kvm_feature_offered", feature="steal_time") == 1
        host.change(on_all(STOLEN))
        after = running.scrape()
        assert (drift(after), changes(after)) == (STEAL_TIME_LOST, 1)
        assert after.value("kvm_feature_offered", feature="steal_time") == 0
        assert after.value("kvm_feature_offered_cpus", feature="steal_time") == 0
        assert after.values("kvm_fingerprint_info", "fingerprint") == {("27db3158dfc328e0",): 1}
        host.change(on_all(ALL))
        repaired = running.scrape()
        assert (drift(repaired), changes(repaired)) == (NO_DRIFT, 2)
        assert repaired.value("kvm_feature_offered", feature="steal_time") == 1


def test_a_change_is_in_the_log(host: DriftingHost) -> None:
    """A line with the fields that programs look for, once for each change and not for each scrape."""
    with host.daemon() as running:
        for state in (ALL, STOLEN, STOLEN, ALL, ALL):
            host.change(on_all(state))
            running.scrape()
        running.wait_for_log("gained steal_time")
        lost, gained = (dict(record, ts="") for record in logged(running, CHANGE_ID))
    for record in (lost, gained):
        assert record.pop("kvm_evidence").startswith("KVM's CPUID leaves of each CPU; compared with the sample of 20")
        assert datetime.fromisoformat(record.pop("kvm_since")).tzinfo is not None
    assert lost == {
        "ts": "",
        "level": "error",
        "msg": f"the feature set changed on CPU 0-1: {LOST_STEAL}",
        "message_id": CHANGE_ID,
        "kvm_feature": "steal_time",
        "kvm_lost": "steal_time",
        "kvm_gained": "",
        "kvm_severity": "corrupts",
        "kvm_action": action("lost", Level.CRITICAL),
        "kvm_before": SUMMARY_ALL,
        "kvm_after": SUMMARY_STOLEN,
        "kvm_cpu": "0,1",
    }
    assert gained == {
        "ts": "",
        "level": "info",
        "msg": "the feature set changed on CPU 0-1: gained steal_time (eax bit 5)",
        "message_id": CHANGE_ID,
        "kvm_feature": "steal_time",
        "kvm_lost": "",
        "kvm_gained": "steal_time",
        "kvm_severity": "harmless",
        "kvm_action": NOTHING,
        "kvm_before": SUMMARY_STOLEN,
        "kvm_after": SUMMARY_ALL,
        "kvm_cpu": "0,1",
    }


def test_one_cpu_that_changes_diverges(host: DriftingHost) -> None:
    """The machine offers what it did, and the log names the CPU."""
    with host.daemon() as running:
        running.scrape()
        host.change({0: ALL, 1: STOLEN})
        scrape = running.scrape()
        assert (drift(scrape), changes(scrape)) == (NO_DRIFT, 1)
        assert scrape.value("kvm_cpus_divergent") == 1
        assert scrape.value("kvm_feature_offered_cpus", feature="steal_time") == 1
        running.wait_for_log(f"the feature set changed on CPU 1: {LOST_STEAL}")


def test_a_move_and_a_disappearance_are_shown_as_such(host: DriftingHost) -> None:
    """Another base is no lost feature; without KVM the features of the boot stay, as 0."""
    with host.daemon() as running:
        assert running.scrape().value("kvm_boot_signature_changed") == 0
        host.change(on_all(kvm(base=0x4000_0100)))
        moved = running.scrape()
        assert (drift(moved), moved.value("kvm_boot_signature_changed")) == (NO_DRIFT, 1)
        host.change(on_all(AMD))
        gone = running.scrape()
        assert (gone.value("kvm_present"), gone.value("kvm_boot_signature_changed")) == (0, 1)
        assert set(gone.values("kvm_feature_offered", *FEATURE).values()) == {0}
        assert gone.value("kvm_boot_feature_changes", change="lost") == 14
        host.change(on_all(ALL))
        back = running.scrape()
        assert (drift(back), back.value("kvm_boot_signature_changed"), back.value("kvm_present")) == (NO_DRIFT, 0, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_boot_outlives_the_daemon(host: DriftingHost, number: signal.Signals) -> None:
    """What was offered first in this boot is the measure after a restart, however the daemon ended."""
    with host.daemon() as running:
        first = running.scrape()
        host.change(on_all(STOLEN))
        assert drift(running.scrape()) == STEAL_TIME_LOST
        assert running.stop(number) == (0 if number == signal.SIGTERM else -number)
    with host.daemon() as running:
        again = running.scrape()
        assert (drift(again), changes(again)) == (STEAL_TIME_LOST, 0)
        name = "kvm_boot_reference_timestamp_seconds"
        assert again.value(name) == first.value(name)
        [record] = logged(running, BOOT_DRIFT_ID)
        assert (record["level"], record["kvm_lost"], record["kvm_gained"]) == ("error", "steal_time", "")
        assert (record["kvm_before"], record["kvm_after"]) == (SUMMARY_ALL, SUMMARY_STOLEN)
        assert " compared with the boot reference of 20" in record["kvm_evidence"]
        assert record["msg"].startswith("the feature set has changed since ")
        assert record["msg"].endswith(f": {LOST_STEAL}")
        host.change(on_all(ALL))
        repaired = running.scrape()
        assert (drift(repaired), changes(repaired)) == (NO_DRIFT, 1)


def test_an_upgrade_does_not_end_a_drift(host: DriftingHost) -> None:
    """A reference of version 0.1.0 is read by the new version; what it lacks is unknown, and stays so in the file."""
    old = {
        "boot_id": read_boot().id,
        "timestamp": 1704067200.0,
        "hypervisor_bit": True,
        "hypervisors": [{"base": 0x4000_0000, "signature": KVM_SIGNATURE.hex(), "max_leaf": 0x4000_0001}],
        "kvm": {"base": 0x4000_0000, "eax": 0x0100_7EFB, "edx": 0},
    }
    (host.runtime_directory / FILE_NAME).write_text(json.dumps(old))
    host.change(on_all(STOLEN))
    for _ in range(2):
        with host.daemon() as running:
            scrape = running.scrape()
            assert drift(scrape) == STEAL_TIME_LOST
            assert scrape.value("kvm_boot_reference_timestamp_seconds") == old["timestamp"]
            assert scrape.value("kvm_boot_reference_persistent") == 1
            assert "kvm_boot_reference_uptime_seconds" not in scrape.names
            assert "lost since first sampled" in running.get("/")
            [record] = logged(running, BOOT_DRIFT_ID)
            assert record["msg"] == f"the feature set has changed since first sampled: {LOST_STEAL}"


def test_what_was_lost_before_the_first_start_is_found_by_its_use(host: DriftingHost) -> None:
    """No reference has the bit, but the kernel counts stolen ticks: use without an offer, on metrics and page."""
    host.boot()
    host.change(on_all(STOLEN))
    with host.daemon() as running:
        scrape, page = running.scrape(), running.get("/")
        assert drift(scrape) == NO_DRIFT
        [record] = logged(running, USED_ID)
        assert record["msg"] == "used, not offered: steal_time (eax bit 5)"
        assert scrape.value("kvm_feature_in_use", feature="steal_time") == 1
        assert scrape.value("kvm_feature_offered", feature="steal_time") == 0
        assert scrape.values("kvm_unoffered_feature_in_use", "feature") == {("steal_time",): 1}
        assert "1 feature used, not offered" in page
        assert "Used, not offered: steal_time (eax bit 5)" in page
    host.change(on_all(ALL))
    with host.daemon() as running:
        assert "used, not offered" not in running.get("/")


def test_a_restart_without_a_directory_takes_a_new_reference(host: DriftingHost) -> None:
    """It says so: in the log at the start, as a metric, and on the page."""
    for leaves in (ALL, STOLEN):
        host.change(on_all(leaves))
        with host.daemon(environment={"RUNTIME_DIRECTORY": ""}) as running:
            scrape = running.scrape()
            assert drift(scrape) == NO_DRIFT
            assert scrape.value("kvm_boot_reference_persistent") == 0
            assert "the boot reference is in memory only" in "".join(running.log)
            assert "oot reference in memory only" in running.get("/")


def test_a_change_while_nobody_looked_is_found(host: DriftingHost) -> None:
    """It is drift since the boot, but no change between samples of this process."""
    with host.daemon() as running:
        running.scrape()
        running.stop(signal.SIGKILL)
    host.change(on_all(STOLEN))
    with host.daemon() as running:
        scrape = running.scrape()
        assert (drift(scrape), changes(scrape)) == (STEAL_TIME_LOST, 0)
        assert len(list(logged(running, BOOT_DRIFT_ID))) == 1
        assert list(logged(running, CHANGE_ID)) == []


def test_a_damaged_reference_is_replaced(host: DriftingHost) -> None:
    """The daemon starts, says so, and measures from now on."""
    (host.runtime_directory / FILE_NAME).write_text("{")
    with host.daemon() as running:
        running.wait_for_log("(it is damaged: JSONDecodeError")
        assert drift(running.scrape()) == NO_DRIFT
        host.change(on_all(STOLEN))
        assert drift(running.scrape()) == STEAL_TIME_LOST


def reasons(scrape: Scrape) -> dict[tuple[str, ...], float]:
    """Why samples were taken, without what made none."""
    return {
        reason: count for reason, count in scrape.values("kvm_exporter_samples_total", "reason").items() if count > 0
    }


def test_a_cpu_that_goes_is_seen_at_the_next_scrape(host: DriftingHost) -> None:
    """Whatever the sample's age; so is one that comes. The machine offers what it did: nothing changed."""
    with host.daemon(max_age=LAZY) as running:
        before = running.scrape()
        assert (before.value("kvm_cpus_online"), reasons(before)) == (2, {("start",): 1})
        host.change({0: ALL})
        gone = running.scrape()
        assert (gone.value("kvm_cpus_online"), reasons(gone)) == (1, {("start",): 1, ("hotplug",): 1})
        assert set(gone.values("kvm_cpu_register", "cpu", "register")) == {("0", "eax"), ("0", "edx")}
        host.change({0: ALL, 1: ALL, 7: ALL})
        back = running.scrape()
        assert (back.value("kvm_cpus_online"), reasons(back)) == (3, {("start",): 1, ("hotplug",): 2})
        assert (changes(back), drift(back)) == (0, NO_DRIFT)
        assert reasons(running.scrape()) == {("start",): 1, ("hotplug",): 2}


def reload(running: Exporter, manager: Notifications) -> str:
    """The status that the service manager is told after a SIGHUP."""
    running.process.send_signal(signal.SIGHUP)
    manager.until("RELOADING")
    return manager.until("READY")["STATUS"]


def test_sighup_looks_at_once(host: DriftingHost, manager: Notifications) -> None:
    """Where no scrape would take a sample, the signal does."""
    with host.daemon(max_age=LAZY, environment=manager.environment) as running:
        manager.until("READY")
        host.change(on_all(STOLEN))
        unseen = running.scrape()
        assert (drift(unseen), reasons(unseen)) == (NO_DRIFT, {("start",): 1})
        assert reload(running, manager) == f"{SUMMARY_STOLEN}; 2 of 2 CPUs sampled, 0 differ"
        seen = running.scrape()
        assert (drift(seen), changes(seen)) == (STEAL_TIME_LOST, 1)
        assert reasons(seen) == {("start",): 1, ("signal",): 1}


GOOD = "features: {required: [steal_time], forbidden: [hints_realtime]}\n"
EXPECTED = {("steal_time", "eax", "5"): 1.0, ("hints_realtime", "edx", "0"): 0.0}
OTHER = "features: {required: [clocksource2], forbidden: [steal_time]}\n"
OTHER_EXPECTED = {("clocksource2", "eax", "3"): 1.0, ("steal_time", "eax", "5"): 0.0}
BROKEN = "features: {required: [steal]}\n"
STAYS = "could not reload the baseline, keeping the previous one: "


def expected(scrape: Scrape) -> tuple[dict[tuple[str, ...], float], float]:
    """What the baseline declares, and whether its file is good."""
    return (
        scrape.values("kvm_feature_expected", "feature", "register", "bit"),
        scrape.value("kvm_exporter_collector_success", collector="baseline"),
    )


def test_a_baseline_that_changes_is_in_the_next_scrape(host: DriftingHost, tmp_path: Path) -> None:
    """A broken one is shown and logged once, and the last good one holds until it is repaired."""
    path = tmp_path / "baseline.yml"
    path.write_text(GOOD)
    with host.daemon(max_age=LAZY, baseline=path) as running:
        kept = running.scrape()
        assert expected(kept) == (EXPECTED, 1)
        assert kept.values("kvm_baseline_violation", "feature") == {}
        path.write_text(BROKEN)
        for _ in range(3):
            assert expected(running.scrape()) == (EXPECTED, 0)
        path.unlink()
        assert expected(running.scrape()) == (EXPECTED, 0)
        path.write_text(OTHER)
        violated = running.scrape()
        assert expected(violated) == (OTHER_EXPECTED, 1)
        assert violated.values("kvm_baseline_violation", "feature") == {("steal_time",): 1}
        running.wait_for_log(f"reloaded the baseline from {path}")
        complaints = [line.partition(STAYS)[2] for line in running.log if STAYS in line]
        assert reasons(running.scrape()) == {("start",): 1}
    assert [complaint.split('", ')[0].rstrip('"}') for complaint in complaints] == [
        f"{path}: line 1: unknown feature 'steal'; did you mean steal_time?",
        f"{path}: cannot be read: No such file or directory; kvm-exporter baseline prints one",
    ]


def test_sighup_reads_the_baseline_and_the_machine(host: DriftingHost, tmp_path: Path, manager: Notifications) -> None:
    """Both, although the file has not changed; a broken one is in the status, and the machine is read all the same."""
    path = tmp_path / "baseline.yml"
    path.write_text(GOOD)
    with host.daemon(max_age=LAZY, baseline=path, environment=manager.environment) as running:
        manager.until("READY")
        assert expected(running.scrape()) == (EXPECTED, 1)
        host.change(on_all(STOLEN))
        assert reload(running, manager) == f"{SUMMARY_STOLEN}; 2 of 2 CPUs sampled, 0 differ"
        running.wait_for_log(f"reloaded the baseline from {path}")
        path.write_text(BROKEN)
        host.change(on_all(ALL))
        broken = "; the baseline file is invalid, keeping the previous one"
        assert reload(running, manager) == f"{SUMMARY_ALL}; 2 of 2 CPUs sampled, 0 differ{broken}"
        scrape = running.scrape()
        assert (expected(scrape), drift(scrape)) == ((EXPECTED, 0), NO_DRIFT)
        assert reasons(scrape) == {("start",): 1, ("signal",): 2}
        path.write_text(OTHER)
        assert reload(running, manager) == f"{SUMMARY_ALL}; 2 of 2 CPUs sampled, 0 differ"
        violated = running.scrape()
        assert expected(violated) == (OTHER_EXPECTED, 1)
        assert violated.values("kvm_baseline_violation", "feature") == {("steal_time",): 1}


SETTLED = 0.2
"""The share of the changes after which the memory has to stay as it is."""


@pytest.mark.parametrize("many", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_changes_leave_nothing_behind(
    host: DriftingHost, manager: Notifications, figure: Callable[[str], None], many: int
) -> None:
    """Most are seen by a look that a signal asks for, every tenth by a scrape; memory grows by less than 4 MB."""
    states = (on_all(ALL), on_all(STOLEN))
    with host.daemon(environment={**manager.environment, **UNMEASURED}) as running:
        manager.until("READY")
        settled, scrape = 0.0, running.get()
        with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE_SECONDS)) as peer:
            for number in range(1, many + 1):
                host.change(states[number % 2])
                if number % 10:
                    reload(running, manager)
                else:
                    peer.request("GET", "/metrics")
                    scrape = peer.getresponse().read().decode()
                if number == many * SETTLED:
                    settled = memory(running)
        end = memory(running)
        assert changes(Scrape(scrape)) == many
    figure(f"{settled:.1f} MB after a fifth of {many} changes, {end:.1f} MB after all")
    assert end - settled < 4
