"""docs/scaling.md: two Prometheus servers that share the machines, and a third for cohorts, alert as one server does.

The servers have the page's files; only addresses are others, and waits are shorter. All machines are one proxy.
"""

import json
import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.fleet.crowd import crowd
from lab.pace import hurried
from lab.panels import queries
from lab.patience import PATIENCE_SECONDS
from lab.servers import Server, start, start_alertmanager
from lab.tree import REPOSITORY, RULE_FILES
from tests.support.monitoring.fleet import Machine, series
from tests.support.monitoring.prometheus import Prometheus
from tests.support.monitoring.stack import until
from tests.support.tools import monitoring_program

PAGE = (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```yaml (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))

RELEASE = "bookworm"

PACE = 240
"""A minute of the rules' waits takes a quarter of a second."""

NOWHERE = "http://127.0.0.1:9"
"""Nobody takes messages there: the discard port."""

NAMES = [f"guest-{number}" for number in range(24)]
"""One of them is less than 5 % of all, and three are more than 10 %."""

ASYNC_PF = {"feature": "async_pf", "register": "eax", "bit": "4"}
YIELD = {"feature": "pv_sched_yield", "register": "eax", "bit": "13"}

Fleet = Mapping[str, Machine | None]
"""The series of each machine by its name; None where it cannot be scraped."""

Alert = frozenset[tuple[str, str]]
"""The labels of an alert."""


def machine(fingerprint: str, lost: int = 0, gained: int = 0) -> Machine:
    """A guest that was offered async_pf at boot, and not pv_sched_yield."""
    return {
        "kvm_present": 1,
        "kvm_exporter_sample_success": 1,
        series("kvm_fingerprint_info", fingerprint=fingerprint): 1,
        series("kvm_feature_offered", **ASYNC_PF): 1 - lost,
        series("kvm_feature_offered", **YIELD): gained,
        series("kvm_boot_feature_changes", change="lost"): lost,
        series("kvm_boot_feature_changes", change="gained"): gained,
        **({series("kvm_boot_feature_changed", **ASYNC_PF): -1} if lost else {}),
        **({series("kvm_boot_feature_changed", **YIELD): 1} if gained else {}),
        "kvm_boot_signature_changed": 0,
    }


OLD, MOVED, LOST = machine("old"), machine("new", gained=1), machine("less", lost=1)


def fleet(moved: int, lost: int = 0, down: int = 0) -> Fleet:
    """So many machines of each kind, in this order; the others are as they were."""
    kinds: list[Machine | None] = [*[MOVED] * moved, *[LOST] * lost, *[None] * down]
    return dict(zip(NAMES, [*kinds, *[OLD] * (len(NAMES) - len(kinds))], strict=True))


def alert(name: str, severity: str, **labels: str) -> Alert:
    """The labels of an alert on the job."""
    return frozenset({"alertname": name, "severity": severity, "job": "kvm", **labels}.items())


RARE, MIXED = alert("KvmFingerprintRare", "warning", fingerprint="new"), alert("KvmFleetMixed", "info")
GAINED = alert("KvmFeatureGained", "info", **YIELD)
LOSERS = {alert("KvmFeatureLost", "warning", instance=name, **ASYNC_PF) for name in NAMES[12:14]}

STEPS: list[tuple[Fleet, set[Alert]]] = [
    (fleet(0), set()),
    (fleet(1), {RARE, GAINED}),
    (fleet(12, lost=2), {MIXED, GAINED, *LOSERS}),
    (
        fleet(12, lost=2, down=3),
        {
            *(MIXED, GAINED, *LOSERS, alert("KvmExportersDown", "critical")),
            *(alert("KvmExporterDown", "warning", instance=name) for name in NAMES[14:17]),
        },
    ),
    (fleet(24), {GAINED}),
]
"""A roll-out: what the machines are, and the alerts that fire then."""


class Site:
    """The machines, a server that scrapes all of them, the servers that share them, and an Alertmanager for each."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.fleet: Fleet = STEPS[0][0]
        self._folder, self._running = folder, running
        self._proxy = f"http://127.0.0.1:{running.enter_context(crowd(self._body))}"
        self._targets = folder / "targets.yml"
        self._targets.write_text(yaml.safe_dump([{"targets": [f"{name}:10401" for name in NAMES]}]))
        self.one, self.several = (self._alertmanager(name) for name in ("one", "several"))
        self.single = Prometheus(self._prometheus("single", self._shard(None, self.one)).address)
        self.shards = [self._prometheus(f"shard-{number}", self._shard(number, self.several)) for number in range(2)]
        self.whole = Prometheus(self._prometheus("global", self._global([one.address for one in self.shards])).address)

    def _body(self, path: str) -> bytes:
        """What a machine serves, by the URL that Prometheus asks the proxy for; no exposition where it is down."""
        found = self.fleet[re.findall(r"//([\w-]+):", path)[0]]
        if found is None:
            return b"down"
        return "".join(f"{one} {value}\n" for one, value in found.items()).replace("'", '"').encode()

    def _alertmanager(self, name: str) -> str:
        server = start_alertmanager(RELEASE, self._folder / name, NOWHERE, PACE)
        self._running.callback(server.process.stop)
        return server.address

    def _prometheus(self, name: str, configuration: dict[str, Any]) -> Server:
        """Start a server; its files are those that the configuration names, with short waits."""
        folder = self._folder / name
        folder.mkdir()
        rules = []
        for path in configuration["rule_files"]:
            [text] = [one.read_text() for one in RULE_FILES if one.name == Path(path).name] or [FILES[Path(path).name]]
            rules.append(folder / Path(path).name)
            rules[-1].write_text(hurried(text, PACE))
        configuration["rule_files"] = [str(path) for path in rules]
        configuration.setdefault("global", {}).update(scrape_interval="1s", evaluation_interval="1s")
        configuration["scrape_configs"][0]["scrape_interval"] = "1s"
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        flags = (f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}")
        server = start(RELEASE, "prometheus", *flags)
        self._running.callback(server.process.stop)
        return server

    def _shard(self, number: int | None, alertmanager: str) -> dict[str, Any]:
        """The page's configuration for a shard; without a number, for a server that keeps all targets."""
        configuration: dict[str, Any] = yaml.safe_load(FILES["shard.yml"])
        [job] = configuration["scrape_configs"]
        job["file_sd_configs"] = [{"files": [str(self._targets)]}]
        job["proxy_url"] = self._proxy
        if number is None:
            configuration["rule_files"] = [str(path) for path in RULE_FILES]
            job["relabel_configs"] = [rule for rule in job["relabel_configs"] if "__tmp_shard" not in str(rule)]
        else:
            configuration["global"]["external_labels"]["shard"] = str(number)
            job["relabel_configs"][1]["regex"] = str(number)
        configuration["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
        return configuration

    def _global(self, shards: list[str]) -> dict[str, Any]:
        configuration: dict[str, Any] = yaml.safe_load(FILES["global.yml"])
        configuration["scrape_configs"][0]["static_configs"] = [{"targets": shards}]
        configuration["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [self.several]}]}]
        return configuration


ASKED = [
    query
    for query in queries()
    if query.dashboard == "KVM shards"
    and query.instant
    and query.panel not in {"Firing alerts", "variable job"}
    and query.name != "example"
]
"""The queries of the dashboard for the global server whose answer is the same wherever it comes from."""


def told(prometheus: Prometheus) -> dict[str, set[tuple[Alert, str]]]:
    """The answers of a server to the dashboard's queries: labels without the shard's, and values."""
    return {
        str(query): {
            (frozenset((name, value) for name, value in one["metric"].items() if name != "shard"), one["value"][1])
            for one in prometheus.query(query.expression)
        }
        for query in ASKED
    }


def fired(alertmanager: str) -> list[Alert]:
    """The labels of all alerts of an Alertmanager, sorted; one that came under other labels, too, is there twice."""
    url = f"http://{alertmanager}/api/v2/alerts"
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:
        return sorted((frozenset(one["labels"].items()) for one in json.load(response)), key=sorted)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All servers, which run through the tests of this file in their order."""
    for name in ("prometheus", "prometheus-alertmanager"):
        monitoring_program(RELEASE, name)
    with ExitStack() as running:
        yield Site(tmp_path_factory.mktemp("site"), running)


def settled(alertmanager: str, expected: set[Alert]) -> list[Alert]:
    """The alerts of an Alertmanager once they are those that are expected, or as they are if that never comes."""
    enough: Callable[[list[Alert]], bool] = sorted(expected, key=sorted).__eq__
    return until(lambda: fired(alertmanager), enough)


def test_the_servers_share_the_machines(site: Site) -> None:
    """Each has some, and the sums of both are the fleet."""
    total = f"sum(cohort:up:count) == {len(NAMES)}"
    assert until(lambda: site.whole.query(total), bool)
    counted = {one["metric"]["shard"]: float(one["value"][1]) for one in site.whole.query("cohort:up:count")}
    assert counted.keys() == {"0", "1"}
    assert min(counted.values()) > 0


@pytest.mark.parametrize(("machines", "expected"), STEPS, ids=["well", "first", "mixed", "down", "done"])
def test_the_alerts_are_those_of_a_single_server(site: Site, machines: Fleet, expected: set[Alert]) -> None:
    """At each step of a roll-out: each alert once, under the same labels, and no other; and the dashboard's numbers."""
    site.fleet = machines
    assert settled(site.one, expected) == sorted(expected, key=sorted)
    assert settled(site.several, expected) == sorted(expected, key=sorted)
    if RARE not in expected:  # A shard does not know what is rare.
        known = until(lambda: (told(site.single), told(site.whole)), lambda both: both[0] == both[1])
        assert known[0] == known[1]


def test_a_server_that_is_down_is_the_alert(site: Site) -> None:
    """Not its machines; what the others know of cohorts goes on."""
    down = site.shards[1]
    down.process.stop()
    labels = {"alertname": "KvmShardDown", "severity": "critical", "job": "kvm-shards", "instance": down.address}
    expected = {GAINED, frozenset(labels.items())}
    assert settled(site.several, expected) == sorted(expected, key=sorted)
