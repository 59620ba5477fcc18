"""docs/scaling.md: two Prometheus servers that share the machines, and one more for cohorts, alert as one server does.

That is a third Prometheus, which scrapes the sums of both, or VictoriaMetrics with vmalert, to which they are written.
The servers have the page's files; only addresses are others, and waits are shorter. All machines are one proxy.
"""

import json
import re
import signal
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from benchmarks.fleet.crowd import crowd
from lab.panels import queries
from lab.patience import PATIENCE_SECONDS
from lab.scaling import FILES, Configuration, cohorts, shard, start_configured
from lab.servers import Server, start_alertmanager
from lab.tree import RULE_FILES
from lab.victoria import start_victoria, start_vmalert
from tests.support.monitoring.fleet import Machine, series
from tests.support.monitoring.prometheus import Prometheus
from tests.support.monitoring.stack import until
from tests.support.slow import slow_but_first
from tests.support.tools import monitoring_program

RELEASE = "bookworm"

PACE = 720
"""An hour of the rules' waits takes five seconds."""

SHARDS = 2

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
MANY_DOWN = alert("KvmExportersDown", "critical")
GAINED = alert("KvmFeatureGained", "info", **YIELD)
LOSERS = {alert("KvmFeatureLost", "warning", instance=name, **ASYNC_PF) for name in NAMES[12:14]}

STEPS: list[tuple[Fleet, set[Alert]]] = [
    (fleet(0), set()),
    (fleet(1), {RARE, GAINED}),
    (fleet(12, lost=2), {MIXED, GAINED, *LOSERS}),
    (
        fleet(12, lost=2, down=3),
        {
            *(MIXED, GAINED, *LOSERS, MANY_DOWN),
            *(alert("KvmExporterDown", "warning", instance=name) for name in NAMES[14:17]),
        },
    ),
    (fleet(24), {GAINED}),
]
"""A roll-out: what the machines are, and the alerts that fire then."""


class Site:
    """The machines, a server that scrapes all of them, the servers that share them, and an Alertmanager for each."""

    def __init__(self, victoria: str | None, folder: Path, running: ExitStack) -> None:
        self.fleet: Fleet = STEPS[0][0]
        self._folder, self._running = folder, running
        self._proxy = f"http://127.0.0.1:{running.enter_context(crowd(self._body))}"
        self._targets = folder / "targets.yml"
        self._targets.write_text(yaml.safe_dump([{"targets": [f"{name}:10401" for name in NAMES]}]))
        self.one, self.several = (self._alertmanager(name) for name in ("one", "several"))
        self.single = Prometheus(self._start("single", self._all_machines()).address)
        self.whole = Prometheus(self._federated() if victoria is None else self._written(victoria))

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

    def _start(self, name: str, configuration: Configuration) -> Server:
        """Start a server with short waits."""
        server = start_configured(RELEASE, self._folder / name, configuration, PACE, 1, 1)
        self._running.callback(server.process.stop)
        return server

    def _federated(self) -> str:
        """Start the shards, and a server that scrapes them; return its address."""
        self._shards = [self._start(f"shard-{number}", self._shard(number)) for number in range(SHARDS)]
        addresses = [shard.address for shard in self._shards]
        self.down = alert("KvmShardDown", "critical", job="kvm-shards", instance=addresses[1])
        return self._start("global", cohorts(addresses, [self.several])).address

    def _written(self, release: str) -> str:
        """Start VictoriaMetrics, shards that write to it, and vmalert; return the address of the first."""
        victoria = start_victoria(release, self._folder / "victoria")
        self._running.callback(victoria.process.stop)
        [remote] = yaml.safe_load(FILES["remote-write.yml"])["remote_write"]
        remote["url"] = f"http://{victoria.address}{urllib.parse.urlsplit(remote['url']).path}"
        self._shards = [
            self._start(f"shard-{number}", {**self._shard(number), "remote_write": [remote]})
            for number in range(SHARDS)
        ]
        vmalert = start_vmalert(release, self._folder / "vmalert", victoria.address, self.several, PACE, 1)
        self._running.callback(vmalert.process.stop)
        self.down = alert("KvmShardDown", "critical", job="kvm-shards", shard="1")
        return victoria.address

    def _shard(self, number: int) -> Configuration:
        """The page's configuration for a shard of these machines."""
        configuration = shard(number, SHARDS, [self.several])
        configuration["scrape_configs"][0]["file_sd_configs"] = [{"files": [str(self._targets)]}]
        configuration["scrape_configs"][0]["proxy_url"] = self._proxy
        return configuration

    def _all_machines(self) -> Configuration:
        """The same for a server that keeps all targets and loads all rules."""
        configuration = shard(0, SHARDS, [self.one])
        del configuration["global"]
        configuration["rule_files"] = [str(path) for path in RULE_FILES]
        job = self._shard(0)["scrape_configs"][0]
        rules = [rule for rule in job["relabel_configs"] if "__tmp_shard" not in str(rule)]
        return {**configuration, "scrape_configs": [{**job, "relabel_configs": rules}]}

    @contextmanager
    def spoiled(self, name: str, change: Callable[[str], str]) -> Iterator[None]:
        """Shard 1 records a sum with another expression meanwhile, made of the right one."""
        path = self._folder / "shard-1" / "machine-rules.yaml"
        right = path.read_text()
        content = yaml.safe_load(right)
        [rule] = (rule for group in content["groups"] for rule in group["rules"] if rule.get("record") == name)
        rule["expr"] = change(rule["expr"])
        self._reload(path, yaml.safe_dump(content), name)
        try:
            yield
        finally:
            self._reload(path, right, name)

    def _reload(self, path: Path, rules: str, name: str) -> None:
        """Give shard 1 other rules; return when it has them, and has found its Alertmanager again, seconds later."""
        shard = Prometheus(self._shards[1].address)

        def recorded() -> list[str]:
            groups = shard.ask("rules")["groups"]
            return [rule["query"] for group in groups for rule in group["rules"] if rule["name"] == name]

        before = recorded()
        path.write_text(rules)
        self._shards[1].process.process.send_signal(signal.SIGHUP)
        assert until(recorded, before.__ne__) != before
        assert until(lambda: shard.ask("alertmanagers")["activeAlertmanagers"], bool)

    def stop_a_shard(self) -> None:
        """Stop shard 1; the alert on it is ``down``."""
        self._shards[1].process.stop()


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
    """The answers of a server to the dashboard's queries: labels without the shard's, and values.

    Prometheus keeps 17 digits of a value, VictoriaMetrics 12.
    """
    return {
        str(query): {
            (
                frozenset((name, value) for name, value in one["metric"].items() if name != "shard"),
                f"{float(one['value'][1]):.9g}",
            )
            for one in prometheus.query(query.expression)
        }
        for query in ASKED
    }


def alike(site: Site, *, expected: bool) -> bool:
    """Whether the global server gives the same answers as the single one, once that is as expected."""
    return until(lambda: told(site.single) == told(site.whole), expected.__eq__)


def alerts(alertmanager: str) -> list[dict[str, dict[str, str]]]:
    """All alerts of an Alertmanager, with ``labels`` and ``annotations``."""
    with urllib.request.urlopen(f"http://{alertmanager}/api/v2/alerts", timeout=PATIENCE_SECONDS) as response:
        found: list[dict[str, dict[str, str]]] = json.load(response)
        return found


def fired(alertmanager: str) -> list[Alert]:
    """The labels of all alerts of an Alertmanager, sorted; one that came under other labels, too, is there twice."""
    return sorted((frozenset(one["labels"].items()) for one in alerts(alertmanager)), key=sorted)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(None, id="federation"),
        pytest.param("bookworm", id="remote write", marks=pytest.mark.slow),
        pytest.param("sid", id="remote write to the newest", marks=pytest.mark.slow),
    ],
)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All servers, which run through the tests of this file in their order; by which release of VictoriaMetrics."""
    for name in ("prometheus", "prometheus-alertmanager"):
        monitoring_program(RELEASE, name)
    for name in ("victoria-metrics", "vmalert"):
        monitoring_program(request.param or RELEASE, name)
    with ExitStack() as running:
        yield Site(request.param, tmp_path_factory.mktemp("site"), running)


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
    if RARE in expected:
        [text] = {one["annotations"]["description"] for one in alerts(site.several) if one["labels"].items() == RARE}
        assert f"One of them: {NAMES[0]}." in text
    else:  # A shard does not know what is rare.
        single, whole = until(lambda: (told(site.single), told(site.whole)), lambda answers: answers[0] == answers[1])
        assert single == whole


ONE_WAY = pytest.mark.parametrize("site", [None], indirect=True, ids=["federation"])
"""For mistakes of a shard, which are the same whichever way its sums go."""


def twice(expression: str) -> str:
    """Every machine is counted twice."""
    return f"2 * ({expression})"


def without(name: str, series: str) -> Callable[[str], str]:
    """A machine is left out."""
    others = f'({series} unless on (instance) up{{instance="{name}"}})'
    return lambda expression: expression.replace(series, others)


WRONG: dict[str, tuple[int, Callable[[str], str], set[Alert]]] = {
    "cohort_fingerprint:kvm_fingerprint_info:count": (1, twice, {MIXED, GAINED}),
    "cohort:kvm_boot_feature_changed:gained": (1, without(NAMES[0], "kvm_boot_feature_changed"), {RARE}),
    "cohort:up:count": (3, without(NAMES[14], 'up{job="kvm"}'), STEPS[3][1] - {MANY_DOWN}),
}
"""Sums that shard 1 makes wrong: the step of the roll-out, the mistake, and the alerts that follow from it.

One machine of 24 has a rare feature set, and two of 36 have not. Two machines that are down are too few.
"""


@ONE_WAY
@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_sum_gives_other_alerts(site: Site, name: str) -> None:
    """If one shard counts machines twice, or leaves one out, the comparison above fails; it passes again afterwards."""
    step, mistake, wrong = WRONG[name]
    site.fleet, expected = STEPS[step]
    assert settled(site.several, expected) == sorted(expected, key=sorted)
    with site.spoiled(name, mistake):
        assert settled(site.several, wrong) == sorted(wrong, key=sorted)
        assert settled(site.one, expected) == sorted(expected, key=sorted)
    assert settled(site.several, expected) == sorted(expected, key=sorted)


SHOWN = (
    "cohort:up:count",
    "cohort:up:sum",
    "cohort:kvm_present:sum",
    "cohort:kvm_feature_offered:sum",
    "cohort_fingerprint:kvm_fingerprint_info:count",
    "cohort:kvm_boot_feature_changed:lost",
    "cohort:kvm_boot_feature_changed:gained",
    "cohort:kvm_boot_feature_changes:drifted",
    "job:kvm_problem:count",
    "ranked:kvm_problem:weight",
)
"""The sums, and the ranking, whose values the dashboard shows."""


@ONE_WAY
@pytest.mark.parametrize("name", slow_but_first(SHOWN))
def test_a_wrong_sum_gives_other_numbers(site: Site, name: str) -> None:
    """If one shard counts machines twice, the dashboard says something else than with a single server."""
    site.fleet, expected = STEPS[3]
    assert settled(site.several, expected) == sorted(expected, key=sorted)
    assert alike(site, expected=True)
    with site.spoiled(name, twice):
        assert not alike(site, expected=False)
    assert alike(site, expected=True)


def test_a_server_that_is_down_is_the_alert(site: Site) -> None:
    """Not its machines; what the others know of cohorts goes on."""
    site.fleet, before = STEPS[-1]
    assert settled(site.several, before) == sorted(before, key=sorted)
    site.stop_a_shard()
    expected = {*before, site.down}
    assert settled(site.several, expected) == sorted(expected, key=sorted)
