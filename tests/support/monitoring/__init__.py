"""Helpers of the tests of rules, alerts and dashboards."""
