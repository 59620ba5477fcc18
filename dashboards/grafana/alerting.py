"""Grafana-managed alert rules, translated from the alerts for Prometheus.

Source of the format: pkg/services/provisioning/alerting of Grafana 11.6, and its documentation under "File
provisioning".
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rules.files import Groups, texts
from rules.rule import Alert, Recording
from rules.selectors import lasting, without_recordings

from grafana.provisioning import FOLDER, UID

INTERVAL = "1m"
"""The evaluation interval, equal to Prometheus' default."""

MOST_UID = 40
"""The maximum length of an identifier in Grafana, in characters."""

QUERY, CONDITION = "A", "B"


class Place(NamedTuple):
    """A panel that shows what an alert is about."""

    dashboard: str
    title: str
    #: Its number on the dashboard.
    panel: int


PROBLEMS = Place("kvm-fleet", "Problems", 1)
"""The panel of every alert that PLACES does not name."""

PLACES = {
    "KvmExporterSampleStale": Place("kvm-guest", "Age of the sample", 24),
    "KvmCpusUnreadable": Place("kvm-guest", "CPUs by state", 19),
    "KvmBootReferenceVolatile": Place("kvm-guest", "Boot reference", 12),
    "KvmExporterWebConfigReloadFailing": Place("kvm-guest", "Web configuration", 34),
    "KvmExporterCertificateExpiring": Place("kvm-guest", "Web configuration", 34),
    "KvmExporterRefusing": Place("kvm-fleet", "Exporters that refuse requests", 28),
    "KvmExporterBaselineReloadFailing": Place("kvm-guest", "Collectors", 23),
    "KvmVanished": Place("kvm-guest", "State", 2),
    "KvmTscFrequencyChanged": Place("kvm-guest", "Clock", 13),
    "KvmFeatureSwitchedOff": Place("kvm-guest", "Bits", 3),
    "KvmClockUnstable": Place("kvm-guest", "Clock", 13),
    "KvmHostClockUnstable": Place("kvm-fleet", "Hosts", 26),
    "KvmExportersDown": Place("kvm-fleet", "Not sampled", 6),
    "KvmFingerprintRare": Place("kvm-fleet", "Fingerprint by machine", 19),
    "KvmFleetMixed": Place("kvm-fleet", "Fingerprints", 18),
    "KvmHostsDiffer": Place("kvm-fleet", "Hosts", 26),
}

_ASKED = re.compile(r"\{\{ with .*?\| query \}\}.*?\{\{ end \}\}")
"""A part of a text that Prometheus fills in by a query."""


def alerting(groups: Groups, runbooks: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each group of rules that has alerts, and the content of its provisioning file.

    ``runbooks`` is the URL of the runbooks, or empty.
    """
    rules = [rule for several in groups.values() for rule in several]
    recordings = {rule.name: rule.expression.strip() for rule in rules if isinstance(rule, Recording)}
    for name, several in groups.items():
        if alerts := [rule for rule in several if isinstance(rule, Alert)]:
            yield name, _file(name, [alert_rule(alert, recordings, runbooks) for alert in alerts])


def alert_rule(alert: Alert, recordings: Mapping[str, str], runbooks: str) -> dict[str, Any]:
    """Return one of Grafana's alert rules.

    Prometheus fires for every series that an expression returns, whatever its value. Grafana fires for every series
    that is not 0, so a second query turns each value into 1. Prometheus does not fire without a series, so
    ``noDataState`` is ``OK``.

    A data source may lack the series that rules for Prometheus record, so the expression reads none of them. Grafana
    11.6 has no equivalent of ``keep_firing_for``: the expression itself outlasts a machine that cannot be scraped.
    """
    place = PLACES.get(alert.name, PROBLEMS)
    expression = without_recordings(alert.expression.strip(), recordings)
    if alert.kept:
        expression = lasting(expression, alert.kept, of_machines=alert.of_machine)
    query = {
        "refId": QUERY,
        "expr": expression,
        "instant": True,
        "range": False,
    }
    condition = {
        "refId": CONDITION,
        "type": "math",
        "expression": f"is_number(${QUERY})",
        "datasource": {"type": "__expr__", "uid": "__expr__"},
    }
    return {
        "uid": identifier(alert.name),
        "title": alert.name,
        "condition": CONDITION,
        "data": [_asked(UID, query), _asked("__expr__", condition)],
        "for": alert.wait,
        "noDataState": "OK",
        "execErrState": "Error",
        "labels": {"severity": alert.severity},
        # Grafana draws the state on the panel by the keys, and links to it from notifications by the annotations.
        "annotations": {
            **{name: annotation(text) for name, text in texts(alert, runbooks).items()},
            "__dashboardUid__": place.dashboard,
            "__panelId__": str(place.panel),
        },
        "dashboardUid": place.dashboard,
        "panelId": place.panel,
    }


def identifier(name: str) -> str:
    """Return the identifier of a rule: ``kvm-feature-lost`` for ``KvmFeatureLost``. Raises ValueError if too long."""
    uid = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
    if len(uid) > MOST_UID:
        raise ValueError(
            f"Grafana allows {MOST_UID} characters, and {uid} has {len(uid)}; give the alert a shorter name"
        )
    return uid


def annotation(template: str) -> str:
    """Return Grafana's template for one of Prometheus. Raises ValueError if it has another ``$`` variable.

    In Grafana, ``$value`` is a text about all queries, and ``$`` in an annotation starts an environment variable. The
    result uses the names without ``$``: ``.Labels`` and ``.Values``. A template cannot query in Grafana.
    """
    translated = _ASKED.sub("see the panel that this alert links to", template)
    translated = translated.replace("$labels.", ".Labels.").replace("$value", f".Values.{QUERY}.Value")
    if "$" in translated:
        raise ValueError(f"Grafana would expand an environment variable in {template!r}; translate it here")
    return translated


def _file(group: str, rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    content = {"orgId": 1, "name": group, "folder": FOLDER, "interval": INTERVAL, "rules": rules}
    return {"apiVersion": 1, "groups": [content]}


def _asked(source: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a query of a data source, over a range that instant queries do not use and Grafana wants."""
    return {
        "refId": model["refId"],
        "relativeTimeRange": {"from": 600, "to": 0},
        "datasourceUid": source,
        "model": model,
    }
