"""What is served at which path: metrics, the landing page, health."""

import math
from collections.abc import Callable, Iterable
from http import HTTPStatus

from prometheus_client.core import Metric

from kvm_exporter.exposition import Body
from kvm_exporter.messages import Request, Response, plain
from kvm_exporter.metrics import machine_families
from kvm_exporter.negotiation import choose_format, choose_gzip
from kvm_exporter.page import landing_page
from kvm_exporter.sample import Sample
from kvm_exporter.sampler import Sampler
from kvm_exporter.self_metrics import build_families, counter_families, sample_families, settings_families

HEALTHY_PATH = "/-/healthy"
READY_PATH = "/-/ready"

_HTML_HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    ),
]


class Site:
    """Answers requests from what the sampler has. For one event loop."""

    def __init__(self, sampler: Sampler, telemetry_path: str, process: Callable[[], Iterable[Metric]]) -> None:
        self._sampler = sampler
        self._telemetry_path = telemetry_path
        self._process = process
        self._fixed: tuple[Sample | None, Body] | None = None
        self._routes = {
            "/": self._landing_page,
            HEALTHY_PATH: self._healthy,
            READY_PATH: self._ready,
            telemetry_path: self._metrics,
        }

    async def answer(self, request: Request) -> Response:
        """The answer to a request, whatever it asks for."""
        route = self._routes.get(request.path)
        if route is None:
            return plain(HTTPStatus.NOT_FOUND, f"Nothing here. The metrics are at {self._telemetry_path}.")
        if request.method not in {"GET", "HEAD"}:
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.", ("Allow", "GET, HEAD"))
        return await route(request)

    async def _metrics(self, request: Request) -> Response:
        sample = await self._sampler.current(self._patience(request))
        choice = choose_format(request.headers.get("accept", ""))
        headers = [("Content-Type", choice.content_type), ("Vary", "Accept, Accept-Encoding")]
        body = self._body(sample)
        if choose_gzip(request.headers.get("accept-encoding", "")):
            return Response(
                HTTPStatus.OK, body.gzip(self._live(), choice.format), [*headers, ("Content-Encoding", "gzip")]
            )
        return Response(HTTPStatus.OK, body.identity(self._live(), choice.format), headers)

    def _body(self, sample: Sample | None) -> Body:
        """The body around a sample; another sample needs another."""
        if self._fixed is None or self._fixed[0] is not sample:
            self._fixed = sample, Body([*machine_families(sample), *build_families()])
        return self._fixed[1]

    def _live(self) -> Iterable[Metric]:
        record = self._sampler.record
        yield from sample_families(self._sampler.last, success=record.success)
        yield from settings_families(self._sampler.limits.max_age)
        yield from counter_families(record)
        yield from self._process()

    def _patience(self, request: Request) -> float:
        """Half a second less than the scraper says that it waits, and never more than an attempt may take."""
        try:
            seconds = float(request.headers.get("x-prometheus-scrape-timeout-seconds", ""))
        except ValueError:
            return self._sampler.limits.timeout
        if not math.isfinite(seconds) or seconds <= 0:
            return self._sampler.limits.timeout
        return min(self._sampler.limits.timeout, max(seconds - 0.5, seconds / 2))

    async def _landing_page(self, _: Request) -> Response:
        sample = await self._sampler.current(self._sampler.limits.timeout)
        return Response(HTTPStatus.OK, landing_page(sample, self._telemetry_path).encode(), _HTML_HEADERS)

    async def _healthy(self, _: Request) -> Response:
        return plain(HTTPStatus.OK, "kvm-exporter is healthy.")

    async def _ready(self, _: Request) -> Response:
        if self._sampler.last is None:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "kvm-exporter has no sample yet; its log says why.")
        return plain(HTTPStatus.OK, "kvm-exporter is ready.")
