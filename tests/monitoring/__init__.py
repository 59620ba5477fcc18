"""Tests of rules, alerts and dashboards with real Prometheus, Alertmanager and Grafana's own code."""
