"""Provisioning files for Grafana: a data source and the dashboards; alerting.py has the alert rules.

Source of the format: pkg/services/provisioning of Grafana 11.6, and its documentation under "File provisioning".
"""

from typing import Any

UID, URL = "$KVM_DATASOURCE_UID", "$KVM_DATASOURCE_URL"
"""The data source, as environment variables, which Grafana expands everywhere except in the model of a query."""

FOLDER = "KVM"


def data_source() -> dict[str, Any]:
    """Return the data source: the Prometheus that scrapes the exporters."""
    source = {
        "name": "Prometheus (KVM)",
        "uid": UID,
        "type": "prometheus",
        "access": "proxy",
        "url": URL,
        "jsonData": {"httpMethod": "POST", "timeInterval": "$KVM_SCRAPE_INTERVAL"},
    }
    return {"apiVersion": 1, "datasources": [source]}


def dashboard_provider() -> dict[str, Any]:
    """Return the provider of the dashboards, from the folder in the environment variable KVM_DASHBOARDS_PATH."""
    provider = {
        "name": "kvm-exporter",
        "folder": FOLDER,
        "type": "file",
        "allowUiUpdates": False,
        "disableDeletion": False,
        "updateIntervalSeconds": 60,
        "options": {"path": "$KVM_DASHBOARDS_PATH", "foldersFromFilesStructure": False},
    }
    return {"apiVersion": 1, "providers": [provider]}
