"""What the tables of the dashboards show: real exporters, a real Prometheus, and Grafana's own code behind it."""

import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.drifting import DriftingHost
from support.exporter import Exporter
from support.fleet import ALERTS, RULES
from support.layouts import kvm
from support.panels import dashboards, panels, queries
from support.prometheus import Prometheus
from support.tables import Row, tables
from support.tools import monitoring_program

MOST_SECONDS = 60

ALL = kvm(0x0100_7EFB)
CHANGED = kvm(0x0100_7EDF)
"""Without steal_time, with mmu_op."""

NOT_EVERYWHERE = kvm(0x0100_7E7B)
"""Without pv_unhalt."""

NOBODY = "127.0.0.1:9"
"""A target that does not answer."""

BASELINE = "features: {required: [hints_realtime], forbidden: [pv_eoi]}\n"

READY = f"""
cohort:kvm_present:sum == 3
and on () cohort:kvm_fingerprint_info:distinct == 2
and on () cohort:kvm_boot_feature_changes:drifted == 1
and on () kvm_cpus_divergent == 1
and on () count(ALERTS{{alertname=~"KvmFeature(Lost|Gained|Missing|Forbidden)"}}) == 4
and on () up{{instance="{NOBODY}"}} == 0
"""
"""Every machine is known to every group of rules, which are evaluated at different times."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The rows of each table by its title, and who is who."""

    rows: Mapping[str, list[Row]]
    steady: str
    changed: str
    different: str

    def row(self, title: str, **cells: str) -> Row:
        """The only row of a table that has some cells."""
        (found,) = (row for row in self.rows[title] if cells.items() <= row.items())
        return found


def configuration(targets: list[str], folder: Path) -> Path:
    """Everything happens every second, and no alert waits."""
    alerts = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    for group in alerts["groups"]:
        for rule in group["rules"]:
            del rule["for"]
    (folder / "alerts.yaml").write_text(yaml.safe_dump(alerts))
    path = folder / "prometheus.yaml"
    content = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES), str(folder / "alerts.yaml")],
        "scrape_configs": [{"job_name": "kvm", "static_configs": [{"targets": targets}]}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def answer(prometheus: Prometheus, expression: str, at: float) -> Any:  # noqa: ANN401 - JSON of many shapes
    """What it says of a time."""
    return prometheus.ask("query?" + urllib.parse.urlencode({"query": expression, "time": at}))["result"]


def shown(prometheus: Prometheus) -> dict[str, list[Row]]:
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
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """One machine that lost a feature and gained one, one whose CPUs differ, one with a baseline, one that is down."""
    folder = tmp_path_factory.mktemp("fleet")
    baseline = folder / "baseline.yaml"
    baseline.write_text(BASELINE)
    with ExitStack() as stack:
        addresses = []
        hosts = []
        for name in ("steady", "changed", "different"):
            (folder / name).mkdir()
            hosts.append(DriftingHost(folder / name, {0: ALL, 1: ALL}))
            daemon = hosts[-1].daemon(baseline=baseline if name == "steady" else None)
            addresses.append(f"127.0.0.1:{stack.enter_context(daemon).port}")
        hosts[1].change({0: CHANGED, 1: CHANGED})
        hosts[2].change({0: ALL, 1: NOT_EVERYWHERE})
        process = Exporter(
            [
                monitoring_program("bookworm", "prometheus"),
                f"--config.file={configuration([*addresses, NOBODY], folder)}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ]
        )
        stack.callback(process.stop)
        prometheus = Prometheus(process)
        end = time.monotonic() + MOST_SECONDS
        while not answer(prometheus, READY, time.time()):
            assert time.monotonic() < end, f"the fleet is not what it should be after {MOST_SECONDS} s"
            time.sleep(0.2)
        yield Shown(shown(prometheus), *addresses)


def test_every_table_has_its_columns(fleet: Shown) -> None:
    """Under their titles, in their order; one table has no rows, since nobody has a web configuration."""
    for panel in (panel for dashboard in dashboards().values() for panel in panels(dashboard)):
        for step in (one["options"] for one in panel.get("transformations", ()) if one["id"] == "organize"):
            order = sorted(step["indexByName"], key=step["indexByName"].__getitem__)
            titles = [step["renameByName"][name] for name in order]
            assert all(list(row) == titles for row in fleet.rows[panel["title"]]), panel["title"]
    assert [title for title, rows in fleet.rows.items() if not rows] == ["Web configuration"]


def test_a_machine_is_one_row(fleet: Shown) -> None:
    """Whatever is known of it, from as many queries as there are columns; what is not known is not nought."""
    title = "Machines to look at first"
    assert len(fleet.rows[title]) == 4
    changed = fleet.row(title, Machine=fleet.changed)
    assert (changed["Scraped"], changed["Lost"], changed["Gained"], changed["Alike"]) == ("up", "1", "1", "33.3%")
    assert fleet.row(title, Machine=fleet.different)["CPUs that differ"] == "1"
    down = fleet.row(title, Machine=NOBODY)
    assert (down["Scraped"], down["Lost"], down["Signature"], down["Fingerprint"]) == ("down", "?", "?", "")


def test_alerts_name_the_machine_and_the_feature(fleet: Shown) -> None:
    """As far as they are about one."""
    title = "Alerts that fire"
    assert fleet.row(title, Alert="KvmFeatureLost", Machine=fleet.changed)["Feature"] == "steal_time"
    assert fleet.row(title, Alert="KvmFeatureForbidden", Machine=fleet.steady)["Feature"] == "pv_eoi"
    assert fleet.row(title, Alert="KvmFeatureGained")["Machine"] == ""


def test_a_feature_names_the_odd_one(fleet: Shown) -> None:
    """Whether it is the only one that is offered it, or the only one that is not."""
    title = "Features and who is the odd one"
    assert len(fleet.rows[title]) == 19
    lost = fleet.row(title, Feature="steal_time")
    assert [lost[one] for one in ("Bit", "Guests", "Odd", "One of them", "Lost", "Gained")] == [
        *("5", "2", "1", fleet.changed, "1", "0")
    ]
    gained = fleet.row(title, Feature="mmu_op")
    assert [gained[one] for one in ("Bit", "Guests", "Odd", "One of them", "Lost", "Gained")] == [
        *("2", "1", "1", fleet.changed, "0", "1")
    ]
    assert fleet.row(title, Feature="pv_eoi")["One of them"] == ""


def test_the_matrix_marks_who_is_unlike_most(fleet: Shown) -> None:
    """A row for each machine, a column for each feature."""
    rows = {row["instance\\feature"]: row for row in fleet.rows["Which machine is offered what"]}
    assert set(rows) == {fleet.steady, fleet.changed, fleet.different}
    assert (rows[fleet.steady]["steal_time"], rows[fleet.steady]["mmu_op"]) == ("yes", "no")
    assert (rows[fleet.changed]["steal_time"], rows[fleet.changed]["mmu_op"]) == ("no, unlike most", "yes, unlike most")
    assert len(rows[fleet.steady]) == 1 + 19


def test_a_bit_has_its_meaning_and_what_is_known_of_it(fleet: Shown) -> None:
    """A row for each bit of each machine."""
    assert len(fleet.rows["Bits"]) == 3 * 19
    assert fleet.row("Bits", Machine=fleet.steady, Feature="pv_eoi") == {
        "Machine": fleet.steady,
        "Register": "eax",
        "Bit": "6",
        "Feature": "pv_eoi",
        "Meaning": "paravirtual end of interrupt",
        "Offered": "yes",
        "CPUs": "2",
        "Used": "?",
        "Expected": "forbidden",
        "Own KVM can": "?",
        "Since boot": "as at boot",
    }
    lost = fleet.row("Bits", Machine=fleet.changed, Feature="steal_time")
    assert (lost["Offered"], lost["Expected"], lost["Since boot"]) == ("no", "-", "lost")
    assert fleet.row("Bits", Machine=fleet.different, Feature="pv_unhalt")["CPUs"] == "1"


def test_what_is_not_as_it_should_be_is_a_list(fleet: Shown) -> None:
    """With the reason."""
    title = "Not as it should be"
    assert fleet.row(title, Feature="steal_time")["Finding"] == "lost since boot"
    assert fleet.row(title, Feature="mmu_op")["Finding"] == "gained since boot"
    assert fleet.row(title, Feature="hints_realtime")["Finding"] == "required, not offered"
    assert fleet.row(title, Feature="pv_eoi")["Finding"] == "forbidden, and offered"
    assert len(fleet.rows[title]) == 4


def test_registers_are_hexadecimal(fleet: Shown) -> None:
    """And so are leaves, which are labels, and look like numbers to Grafana."""
    first = {"Machine": fleet.different, "CPU": "0", "Leaf": "0x40000001"}
    assert fleet.row("Registers of every CPU", **first) == {**first, "EAX": "0x1007EFB", "EDX": "0x0"}
    other = {**first, "CPU": "1", "EAX": "0x1007E7B"}
    assert fleet.rows["Which CPUs differ"] == [{**other, "EDX": "as most"}]
    assert fleet.row("Hypervisor signatures", Machine=fleet.steady)["Base"] == "0x40000000"
    (some,) = fleet.rows["Features that only some CPUs are offered"]
    assert (some["Feature"], some["CPUs"]) == ("pv_unhalt", "1")


def test_fingerprints_tell_who_has_which(fleet: Shown) -> None:
    """The same words in the table of the fleet and in that of a guest."""
    assert sorted(row["Machines"] for row in fleet.rows["Fingerprints"]) == ["1", "2"]
    has = {row["Machine"]: row["Fingerprint"] for row in fleet.rows["Which machine has which"]}
    assert has[fleet.steady] == has[fleet.different] == "a56f971aee6ec7ef"
    assert fleet.row("Fingerprint", Machine=fleet.changed)["Fingerprint"] == has[fleet.changed] != has[fleet.steady]
