"""What the tables of the dashboards show: real exporters, a real Prometheus, and Grafana's own code behind it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from kvm_exporter.kvm.features import FEATURES
from lab.drifting import DriftingHost
from lab.panels import dashboards, panels, queries
from lab.servers import start_prometheus
from tests.support.monitoring.prometheus import Prometheus
from tests.support.monitoring.stack import until
from tests.support.monitoring.tables import Row, tables
from tests.support.rooms.layouts import kvm
from tests.support.tools import monitoring_program

ALL = kvm(0x0100_7EFB)
CHANGED = kvm(0x0100_7EDF)
"""Without steal_time, with mmu_op."""

NOT_EVERYWHERE = kvm(0x0100_7E7B)
"""Without pv_unhalt."""

STEADY, CHANGED_ONE, DIFFERENT, NOBODY = "steady", "changed", "different", "nobody"
"""Instances; the last one does not answer."""

NOWHERE = "127.0.0.1:9"
"""Nobody takes messages there, or answers: the discard port."""

NO_WAITS = 1_000_000
"""The pace at which an hour is over at once."""

BASELINES = {
    STEADY: "features: {required: [hints_realtime], forbidden: [pv_eoi]}\n",
    CHANGED_ONE: "features: {required: [steal_time], forbidden: [mmu_op]}\n",
}

READY = f"""
cohort:kvm_present:sum == 3
and on () cohort:kvm_fingerprint_info:distinct == 2
and on () cohort:kvm_boot_feature_changes:drifted == 1
and on () kvm_cpus_divergent == 1
and on () count(ALERTS{{alertstate="firing", alertname=~"KvmFeature(LostDangerous|Gained|Missing|Forbidden)"}}) == 6
and on () up{{instance="{NOBODY}"}} == 0
and on () count(ALERTS_FOR_STATE{{alertname=~"KvmExporterDown|KvmCpusDiffer"}}) == 2
"""
"""Every machine is known to every group of rules, which are evaluated at different times."""


Rows = Mapping[str, list[Row]]
"""The rows of each table by its title."""


def row_of(rows: Rows, title: str, **cells: str) -> Row:
    """The only row of a table that has some cells."""
    (found,) = (row for row in rows[title] if cells.items() <= row.items())
    return found


def answer(prometheus: Prometheus, expression: str, at: float) -> Any:  # noqa: ANN401 - JSON of many shapes
    """What it says of a time."""
    return prometheus.ask("query", query=expression, time=str(at))["result"]


def shown(prometheus: Prometheus) -> Rows:
    """The rows of every table, of one time, as Grafana asks."""
    now = time.time()
    found = [panel for dashboard in dashboards().values() for panel in panels(dashboard) if panel["type"] == "table"]
    asked = {(query.panel, query.name): query.expression for query in queries()}
    answers = [
        (
            panel,
            {one["refId"]: answer(prometheus, asked[panel["title"], one["refId"]], now) for one in panel["targets"]},
        )
        for panel in found
    ]
    return {panel["title"]: rows for panel, rows in zip(found, tables(answers), strict=True)}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rows]:
    """One machine that lost a feature and gained one, one whose CPUs differ, one that is steady, one that is down.

    The first and the third violate their baselines.
    """
    folder = tmp_path_factory.mktemp("fleet")
    with ExitStack() as running:
        machines = {NOBODY: NOWHERE}
        hosts = {name: DriftingHost(folder / name, {0: ALL, 1: ALL}) for name in (STEADY, CHANGED_ONE, DIFFERENT)}
        for name, host in hosts.items():
            baseline = folder / f"{name}.yaml"
            baseline.write_text(BASELINES.get(name, ""))
            daemon = host.daemon(baseline=baseline if name in BASELINES else None)
            machines[name] = f"127.0.0.1:{running.enter_context(daemon).port}"
        hosts[CHANGED_ONE].change({0: CHANGED, 1: CHANGED})
        hosts[DIFFERENT].change({0: ALL, 1: NOT_EVERYWHERE})
        monitoring_program("bookworm", "prometheus")
        server = start_prometheus("bookworm", folder / "prometheus", machines, NOWHERE, NO_WAITS)
        running.callback(server.process.stop)
        prometheus = Prometheus(server.address)
        assert until(lambda: prometheus.query(READY), bool), "the fleet is not what it should be"
        yield shown(prometheus)


def test_every_table_has_its_columns(fleet: Rows) -> None:
    """Under their titles, in their order, but for columns that no machine has a value for: these have no clock.

    Without rows are tables about hosts, web configurations and refusals.
    """
    missing = {}
    for panel in (panel for dashboard in dashboards().values() for panel in panels(dashboard)):
        for step in (one["options"] for one in panel.get("transformations", ()) if one["id"] == "organize"):
            order = sorted(step["indexByName"], key=step["indexByName"].__getitem__)
            titles = [step["renameByName"][name] for name in order]
            for row in fleet[panel["title"]]:
                assert list(row) == [title for title in titles if title in row], panel["title"]
                if absent := set(titles) - set(row):
                    missing[panel["title"]] = absent
    clock = {"Clock source", "Clock"}
    frequencies = {"TSC, by the clock", "TSC, by the leaf", "TSC at first", "Bus"}
    # Whether anything is known of use depends on the files of this machine, and on how long it has been up.
    assert {title: absent - {"Used"} for title, absent in missing.items()} == {
        "Bits": {"Own KVM", "Switch"},
        "Fingerprint": {"Leaves"},
        "State": clock,
        "Clock": clock | frequencies,
        "Worst machines": {"Shard"},
    }
    empty = {title for title, rows in fleet.items() if not rows}
    assert empty == {"Hosts", "Exporters that refuse requests", "Web configuration"}


def test_a_machine_is_one_row(fleet: Rows) -> None:
    """Whatever is known of it, from as many queries as there are columns; what is not known is not nought."""
    title = "Machines to check first"
    assert len(fleet[title]) == 4
    changed = row_of(fleet, title, Machine=CHANGED_ONE)
    assert (changed["Scraped"], changed["Lost"], changed["Gained"], changed["Share"]) == ("up", "1", "1", "33.3%")
    assert row_of(fleet, title, Machine=DIFFERENT)["CPUs differ"] == "1"
    down = row_of(fleet, title, Machine=NOBODY)
    assert (down["Scraped"], down["Lost"], down["CPUs differ"], down["Fingerprint"]) == ("down", "?", "?", "")


def test_alerts_name_the_machine_and_the_feature(fleet: Rows) -> None:
    """As far as they are about one; else the link in the cell selects all machines, and not one without a name."""
    title = "Firing alerts"
    assert row_of(fleet, title, Alert="KvmFeatureLostDangerous", Machine=CHANGED_ONE)["Feature"] == "steal_time"
    assert row_of(fleet, title, Alert="KvmFeatureForbidden", Machine=STEADY)["Feature"] == "pv_eoi"
    assert row_of(fleet, title, Alert="KvmFeatureGained")["Machine"] == "All"
    assert "" not in {row["Machine"] for row in fleet[title]}


def test_a_feature_names_the_odd_one(fleet: Rows) -> None:
    """Whether it is the only one that is offered it, or the only one that is not."""
    title = "Outliers by feature"
    assert len(fleet[title]) == len(FEATURES)
    lost = row_of(fleet, title, Feature="steal_time")
    assert [lost[one] for one in ("Bit", "Guests", "Outliers", "Example", "Lost", "Gained")] == [
        *("5", "2", "1", CHANGED_ONE, "1", "0")
    ]
    gained = row_of(fleet, title, Feature="mmu_op")
    assert [gained[one] for one in ("Bit", "Guests", "Outliers", "Example", "Lost", "Gained")] == [
        *("2", "1", "1", CHANGED_ONE, "0", "1")
    ]
    assert row_of(fleet, title, Feature="pv_eoi")["Example"] == ""


def test_a_machine_that_is_unlike_most_is_listed_by_feature(fleet: Rows) -> None:
    """With the share of machines that are offered it, whether it alone is, or it alone is not."""
    found = {(row["Machine"], row["Feature"], row["Offered"]): row for row in fleet["Machines unlike most"]}
    assert set(found) == {(CHANGED_ONE, "steal_time", "lost"), (CHANGED_ONE, "mmu_op", "gained")}
    assert {row["Alike"] for row in found.values()} == {"33.3%"}
    assert found[CHANGED_ONE, "steal_time", "lost"]["Offered to"] == "66.7%"


def test_a_bit_has_its_meaning_and_what_is_known_of_it(fleet: Rows) -> None:
    """A row for each bit of each machine."""
    assert len(fleet["Bits"]) == 3 * len(FEATURES)
    assert {"Used": "?"} | row_of(fleet, "Bits", Machine=STEADY, Feature="pv_eoi") == {
        "Machine": STEADY,
        "Register": "eax",
        "Bit": "6",
        "Feature": "pv_eoi",
        "Meaning": "paravirtual end of interrupt",
        "Offered": "yes",
        "CPUs": "2",
        "Used": "?",
        "Expected": "unwanted",
    }
    lost = row_of(fleet, "Bits", Machine=CHANGED_ONE, Feature="steal_time")
    assert (lost["Offered"], lost["Expected"]) == ("lost", "missing")
    assert row_of(fleet, "Bits", Machine=STEADY, Feature="hints_realtime")["Expected"] == "missing"
    some = row_of(fleet, "Bits", Machine=DIFFERENT, Feature="pv_unhalt")
    assert (some["Offered"], some["CPUs"]) == ("some", "1")


def test_problems_are_a_list(fleet: Rows) -> None:
    """Which machine, which feature, since when, what to do. A bit is one row, also if it violates the baseline."""
    found = {(row["Machine"], row["Feature"]): row for row in fleet["Problems"]}
    assert len(found) == len(fleet["Problems"])
    assert {key: row["Problem"] for key, row in found.items()} == {
        (CHANGED_ONE, "steal_time"): "lost, dangerous",
        (CHANGED_ONE, "mmu_op"): "forbidden, offered",
        (DIFFERENT, "pv_unhalt"): "CPUs differ",
        (STEADY, "hints_realtime"): "required, not offered",
        (STEADY, "pv_eoi"): "forbidden, offered",
        (NOBODY, ""): "not sampled",
    }
    assert found[CHANGED_ONE, "steal_time"]["What to do"].startswith("Take the machine out of service now.")
    assert {row["Since"] for row in found.values()} == {"a few seconds ago"}


def test_problems_of_all_machines_are_counted(fleet: Rows) -> None:
    """For each kind, with what to do; and the worst machines are those that have them."""
    counted = {row["Problem"]: row["Machines"] for row in fleet["Problems of all machines"]}
    assert counted == {
        "lost, dangerous": "1",
        "CPUs differ": "1",
        "required, not offered": "2",
        "forbidden, offered": "2",
        "not sampled": "1",
        "gained": "1",
    }
    lost = row_of(fleet, "Problems of all machines", Problem="lost, dangerous")
    assert lost["What to do"].startswith("Take the machine out of service now.")
    worst = {row["Machine"]: row["Worst problem"] for row in fleet["Worst machines"]}
    assert worst == {
        CHANGED_ONE: "lost, dangerous",
        DIFFERENT: "CPUs differ",
        STEADY: "required, not offered",
        NOBODY: "not sampled",
    }


def test_registers_are_hexadecimal(fleet: Rows) -> None:
    """And so are leaves, which are labels, and look like numbers to Grafana."""
    first = {"Machine": DIFFERENT, "CPU": "0", "Leaf": "0x40000001"}
    assert row_of(fleet, "Registers by CPU", **first) == {**first, "EAX": "0x1007EFB", "EDX": "0x0"}
    other = {**first, "CPU": "1", "EAX": "0x1007E7B", "EDX": "0x0"}
    assert fleet["Registers of CPUs that differ"] == [other]
    assert row_of(fleet, "Hypervisor signatures", Machine=STEADY)["Base"] == "0x40000000"
    (some,) = fleet["Features offered to some CPUs only"]
    assert (some["Feature"], some["CPUs"]) == ("pv_unhalt", "1")


def test_fingerprints_tell_who_has_which(fleet: Rows) -> None:
    """The same words in the table of the fleet and in that of a guest."""
    assert sorted(row["Machines"] for row in fleet["Fingerprints"]) == ["1", "2"]
    has = {row["Machine"]: row["Fingerprint"] for row in fleet["Fingerprint by machine"]}
    assert has[STEADY] == has[DIFFERENT] == "a56f971aee6ec7ef"
    assert row_of(fleet, "Fingerprint", Machine=CHANGED_ONE)["Fingerprint"] == has[CHANGED_ONE] != has[STEADY]
