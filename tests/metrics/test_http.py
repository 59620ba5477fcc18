"""kvm_exporter.metrics.http: the counts of the server as text, with the values of the moment."""

import pytest

from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.http import HttpCounts, HttpMetrics, http_families
from kvm_exporter.metrics.negotiation import Format
from lab.scrape import Scrape


@pytest.mark.parametrize("form", Format, ids=lambda form: form.name)
def test_the_text_has_the_values_of_the_moment(form: Format) -> None:
    """The text equals what prometheus_client renders, also after a count has changed and a status code was added."""
    requests, dropped = {200: 3, 401: 0}, {"limit": 0, "deadline": 2}
    counts = HttpCounts(requests, 1, dropped, 4)
    metrics = HttpMetrics(lambda: counts)
    for _ in range(2):
        theirs = Scrape(render(http_families(counts), form).decode())
        mine = Scrape(metrics.text(form).decode())
        assert mine.names == theirs.names
        for name, labels in (
            ("kvm_exporter_http_requests_total", {"code": "200"}),
            ("kvm_exporter_http_connections_dropped_total", {"reason": "deadline"}),
        ):
            assert mine.value(name, **labels) == theirs.value(name, **labels)
        assert mine.value("kvm_exporter_log_messages_dropped_total") == 4
        requests |= {200: 4, 418: 1}
        dropped["deadline"] += 1
    assert Scrape(metrics.text(form).decode()).value("kvm_exporter_http_requests_total", code="418") == 1
