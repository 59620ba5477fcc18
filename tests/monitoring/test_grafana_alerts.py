"""Grafana's alert rules: each alert of Prometheus has one that says the same at the same times, without recordings.

Prometheus' own engine evaluates them here, with none of the recorded series. What a Grafana makes of them else is read
in its source: pkg/services/ngalert, and pkg/services/provisioning/values for variables of the environment.
"""

import re
from pathlib import Path

import pytest
from grafana.alerting import PLACES, alert_rule, annotation, identifier
from rules.rule import Alert
from rules.selectors import lasting, without_recordings

from lab.panels import EVERYTHING, dashboards, panels, replaced
from tests.monitoring.test_alerts import ABOUT_SILENCE, DOWN, DRIFT, HEALTHY, NONE, SCENES, all_of, wait
from tests.support.monitoring.catalogue import rendered
from tests.support.monitoring.fleet import Expected, Firing, alert_rules, minutes, promtool_says, rule_groups
from tests.support.monitoring.grafana import LINKED, asked, for_prometheus, grafana_rules, groups, said
from tests.support.monitoring.promql import selectors
from tests.support.monitoring.queries import metrics_of
from tests.support.slow import slow_but

EXAMPLE, LINK = "One of them: guest-1:10401.", "One of them: see the panel that this alert links to."
"""What a text says that Prometheus fills in by a query, and what it says in Grafana, which cannot."""

FAILED = 13
"""So many minutes without a scrape are outlasted."""

BACK = 2
"""So many minutes after a machine is well, no alert on it is left."""

TRANSLATED = [name for name, rule in alert_rules().items() if asked(grafana_rules()[name]) != rule["expr"]]
"""The alerts whose expression is not letter for letter that of Prometheus."""

ALWAYS = ("KvmFeatureLost", "KvmExportersDown", "KvmFleetMixed")
"""One on a machine, one on silence and one on a cohort: those whose scenes are played by ``make test``, too."""


def expanded(template: str) -> str:
    """What Grafana makes of a text of a file with no variable in its environment: values.go, interpolateValue."""
    return "$".join(re.sub(r"\$\{?\w+\}?", "", part) for part in template.split("$$"))


def test_every_alert_has_its_form() -> None:
    """In groups of the same names, in the same order, and no other."""
    alerts = {name: [rule["alert"] for rule in rules if "alert" in rule] for name, rules in rule_groups().items()}
    assert {name: [rule["title"] for rule in group["rules"]] for name, group in groups().items()} == {
        name: names for name, names in alerts.items() if names
    }


@pytest.mark.parametrize("name", slow_but(ALWAYS, TRANSLATED))
def test_it_fires_where_that_of_prometheus_does(name: str, tmp_path: Path) -> None:
    """With its text in its time; in silence as that one does; not when it is over, and not in what is only near."""
    scene = SCENES[name]
    lasts = wait(name) + 4
    before = [(10, all_of(scene, HEALTHY)), (lasts, scene.fault)]
    again = [*before, (FAILED + 1, all_of(scene, DOWN)), (lasts, scene.fault)]
    over = [*again, (BACK + scene.looks_back + 1, all_of(scene, HEALTHY))]
    phases = [*over, *scene.near]
    firing: Firing = {
        name: [Expected(one.labels, one.summary, one.description.replace(EXAMPLE, LINK)) for one in scene.text]
    }
    due = 10 + wait(name)
    checks = {9: NONE, due - 2: NONE, due + 2: firing, minutes(before) - 1: firing, minutes(again) - 1: firing}
    if name in DRIFT:
        checks |= {minutes(before) + minute: firing for minute in range(0, FAILED, 4)}
    elif name not in ABOUT_SILENCE and not scene.looks_back:
        checks[minutes(before) + FAILED] = NONE
    checks[minutes(over) - 1] = NONE
    checks |= dict.fromkeys([*range(minutes(over), minutes(phases), 5), minutes(phases) - 1], NONE)
    ignored = {*scene.also, *scene.nearby, *ABOUT_SILENCE} - {name}
    assert promtool_says(tmp_path, phases, checks, ignored=ignored, rules=(for_prometheus(tmp_path),)) == ""


@pytest.mark.parametrize("name", slow_but(ALWAYS, DRIFT))
def test_it_is_over_when_a_machine_is_not_scraped_for_long(name: str, tmp_path: Path) -> None:
    """After the time that Prometheus keeps it firing without data."""
    scene = SCENES[name]
    phases = [(10, all_of(scene, HEALTHY)), (wait(name) + 5, scene.fault), (20, all_of(scene, DOWN))]
    checks = {minutes(phases) - 1: NONE}
    assert promtool_says(tmp_path, phases, checks, ignored=set(ABOUT_SILENCE), rules=(for_prometheus(tmp_path),)) == ""


@pytest.mark.parametrize("name", alert_rules())
def test_it_asks_a_server_that_records_nothing(name: str) -> None:
    """The exporter's series alone, and what Prometheus itself says of a scrape."""
    assert {str(one.name) for one in selectors(asked(grafana_rules()[name]))} <= rendered() | {"up"}


@pytest.mark.parametrize("name", alert_rules())
def test_every_series_fires(name: str) -> None:
    """Whatever its value; none does not, and an expression that fails is told."""
    theirs, ours = alert_rules()[name], grafana_rules()[name]
    query, condition = ours["data"]
    assert (query["model"]["instant"], query["model"]["range"]) == (True, False)
    assert ours["condition"] == condition["refId"] == condition["model"]["refId"]
    assert condition["model"]["type"] == "math"
    assert condition["model"]["expression"] == f"is_number(${query['refId']})"
    assert (ours["noDataState"], ours["execErrState"]) == ("OK", "Error")
    assert (ours["for"], ours["labels"]) == (theirs["for"], theirs["labels"])


@pytest.mark.parametrize("name", alert_rules())
def test_it_links_to_a_panel_that_shows_it(name: str) -> None:
    """By the dashboard and the number that Grafana and its notifications each want, to one that reads its series."""
    rule = grafana_rules()[name]
    assert [rule["annotations"][one] for one in LINKED] == [rule["dashboardUid"], str(rule["panelId"])]
    (panel,) = (one for one in panels(dashboards()[f"{rule['dashboardUid']}.json"]) if one["id"] == rule["panelId"])
    assert panel["title"] == (PLACES[name].title if name in PLACES else "Problems")
    first = str(selectors(asked(rule))[0].name)
    assert first in frozenset().union(*(metrics_of(replaced(one["expr"], EVERYTHING)) for one in panel["targets"]))


def test_places_are_of_alerts_that_there_are() -> None:
    """None is left over of one that has another name now."""
    assert PLACES.keys() <= alert_rules().keys()


@pytest.mark.parametrize("name", alert_rules())
def test_annotations_say_the_same(name: str) -> None:
    """But for the names of labels and of the value, which need no dollar; and for what only Prometheus can ask."""
    texts = {key: text for key, text in grafana_rules()[name]["annotations"].items() if key not in LINKED}
    theirs = alert_rules()[name]["annotations"]
    assert texts.keys() == theirs.keys()
    for key, text in texts.items():
        assert expanded(text) == text
        assert said(text) == re.sub(r"One of them: {{ with .*{{ end }}\.", LINK, theirs[key])


def test_a_site_with_runbooks_has_links_to_them() -> None:
    """In place of what they say."""
    alert = Alert(name="KvmVanished", expression="up", wait="1m", severity="critical", summary="", description="")
    texts = alert_rule(alert, {}, "https://wiki.example/kvm")["annotations"]
    assert texts["runbook_url"] == "https://wiki.example/kvm#kvmvanished"
    assert "runbook" not in texts


def test_a_template_that_grafana_would_spoil_is_refused() -> None:
    """Not written and wondered at."""
    with pytest.raises(ValueError, match=r"Grafana would expand an environment variable in '\{\{ \$externalURL \}\}'"):
        annotation("{{ $externalURL }}")


def test_identifiers_are_stable_and_short() -> None:
    """One for each rule, which Grafana allows."""
    uids = [rule["uid"] for rule in grafana_rules().values()]
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"[a-z-]{1,40}", uid) for uid in uids)
    assert identifier("KvmCpusDiffer") == "kvm-cpus-differ"


def test_a_long_identifier_is_refused() -> None:
    """Grafana would refuse the whole file."""
    with pytest.raises(ValueError, match=r"Grafana allows 40 characters, and a{41} has 41; give the alert a shorter"):
        identifier("a" * 41)


def test_a_wait_is_a_multiple_of_the_interval() -> None:
    """Grafana evaluates at the interval, and waits no part of it."""
    assert {group["interval"] for group in groups().values()} == {"1m"}
    assert all(re.fullmatch(r"[1-9]\d*[mh]", rule["for"]) for rule in grafana_rules().values())


RECORDINGS = {"cohort:kvm_x:sum": 'sum by (job, kvm_zone) (kvm_x{of="}"})', "cohort:kvm_x:half": "cohort:kvm_x:sum / 2"}

SUM = '( sum by (job, kvm_zone) (kvm_x{of="}"}) )'
A, B, C = (
    f'label_replace(vector(1), "{label}", "{text}", "", "")'
    for label, text in (("job", "a"), ("job", "b"), ("kvm_zone", "c"))
)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("cohort:kvm_x:other", "cohort:kvm_x:other"),
        ('label_join(kvm_x, "a", "cohort:kvm_x:sum")', 'label_join(kvm_x, "a", "cohort:kvm_x:sum")'),
        ("cohort:kvm_x:sum > 1", f"{SUM} > 1"),
        ("1 + cohort:kvm_x:half", f"1 + ( {SUM} / 2 )"),
        (
            'cohort:kvm_x:sum{job=~"a|b", kvm_zone="c"}',
            f"( {SUM} and on (job) ({A} or {B}) and on (kvm_zone) ({C}) )",
        ),
    ],
)
def test_what_is_recorded_stands_in_place_of_its_name(expression: str, expected: str) -> None:
    """Of the name of a series; not of one in a text or a list of labels."""
    assert " ".join(without_recordings(expression, RECORDINGS).split()) == expected


@pytest.mark.parametrize("matcher", ['job!="a"', 'job=~"a.*"', 'job!~"a"'])
def test_a_matcher_without_a_translation_is_refused(matcher: str) -> None:
    """Never left out."""
    with pytest.raises(ValueError, match="on a recorded series has no translation; use = or =~ with words between"):
        without_recordings(f"cohort:kvm_x:sum{{{matcher}}}", RECORDINGS)


SAMPLED = "unless on (job, instance) kvm_exporter_sample_success == 1"


@pytest.mark.parametrize(
    ("of_machines", "expected"),
    [
        (True, '( up + kvm_x{of="}"} ) or ( up + last_over_time(kvm_x{of="}"}[1h]) ) ' + SAMPLED),
        (False, 'up + (kvm_x{of="}"} or last_over_time(kvm_x{of="}"}[1h]) ' + SAMPLED + ")"),
    ],
)
def test_what_is_last_known_counts_where_a_machine_has_no_sample(expected: str, *, of_machines: bool) -> None:
    """Of a result with a series for each machine, or of each series that others are summed up from."""
    assert " ".join(lasting('up + kvm_x{of="}"}', "1h", of_machines=of_machines).split()) == expected


@pytest.mark.parametrize("of_machines", [True, False])
def test_a_label_is_no_series(*, of_machines: bool) -> None:
    """Though its name begins like one."""
    assert "last_over_time" not in lasting("sum by (kvm_zone) (up)", "15m", of_machines=of_machines)
