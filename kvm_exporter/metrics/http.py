"""Metric families about HTTP and the log, whose values are new at every scrape."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kvm_exporter.metrics.exposition import template
from kvm_exporter.metrics.families import counters
from kvm_exporter.metrics.negotiation import Format


class HttpCounts(NamedTuple):
    """What the server and the log have counted since the start."""

    #: Responses by status code.
    requests: Mapping[int, int]
    #: Connections that are open now.
    connections: int
    #: Connections that the server ended, by reason.
    dropped: Mapping[Any, int]
    #: Log messages that were dropped because the log was not read in time.
    log_messages: int


class HttpMetrics:
    """Renders the counts as text. ``count`` returns them as they are now."""

    def __init__(self, count: Callable[[], HttpCounts]) -> None:
        self._count = count
        #: The text in a format for the status codes that there are, with a placeholder for each value.
        self._templates: dict[tuple[Format, int], bytes] = {}

    def text(self, form: Format) -> bytes:
        """Return the families with their current values, rendered in a format."""
        counts = self._count()
        key = form, len(counts.requests)  # no status code ever goes away
        if key not in self._templates:
            self._templates[key] = template(http_families(counts), form)
        values = (*counts.requests.values(), counts.connections, *counts.dropped.values(), counts.log_messages)
        return self._templates[key] % values


def http_families(counts: HttpCounts) -> tuple[Metric, ...]:
    """Return the families of HTTP and of the log, in the order of the fields of HttpCounts."""
    requests = counters(
        "kvm_exporter_http_requests",
        "Responses to HTTP requests, by status code.",
        ("code",),
        {(str(code),): count for code, count in counts.requests.items()},
    )
    connections = GaugeMetricFamily(
        "kvm_exporter_http_connections", "HTTP connections that are open now.", counts.connections
    )
    dropped = counters(
        "kvm_exporter_http_connections_dropped",
        "Connections that the exporter ended: limit made room for another, deadline for a peer that was too slow, "
        "handshake and client_certificate for TLS peers that were refused.",
        ("reason",),
        {(reason,): count for reason, count in counts.dropped.items()},
    )
    log = CounterMetricFamily(
        "kvm_exporter_log_messages_dropped",
        "Log messages that were dropped because nothing read the log in time.",
        counts.log_messages,
    )
    return requests, connections, dropped, log
