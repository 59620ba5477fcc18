"""Metric families whose series have labels: ``series`` has the value of each, by the values of its labels."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

L = TypeVar("L", bound=tuple[str, ...])


def gauges(
    name: str, documentation: str, labels: Sequence[str], series: Mapping[L, float], unit: str = ""
) -> GaugeMetricFamily:
    """Return a family of gauges."""
    family = GaugeMetricFamily(name, documentation, labels=labels, unit=unit)
    for values, value in series.items():
        family.add_metric(values, value)
    return family


def counters(name: str, documentation: str, labels: Sequence[str], series: Mapping[L, float]) -> CounterMetricFamily:
    """Return a family of counters."""
    family = CounterMetricFamily(name, documentation, labels=labels)
    for values, value in series.items():
        family.add_metric(values, value)
    return family
