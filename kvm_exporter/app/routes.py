"""What is served at which path: metrics, the landing page, health."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from kvm_exporter.collector.observer import Collected, Observation
from kvm_exporter.collector.sampler import Sampler, Tally
from kvm_exporter.config.files import Reloaded
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.metrics.exporter import (
    Reload,
    build_families,
    collector_families,
    counter_families,
    sample_families,
    settings_families,
    web_config_families,
)
from kvm_exporter.metrics.exposition import Body, Cache, Families
from kvm_exporter.metrics.machine import expected_families, machine_families, observed_families
from kvm_exporter.metrics.negotiation import Format, choose_format, choose_gzip
from kvm_exporter.report.page import HEADERS, landing_page
from kvm_exporter.web.http import Request, Response, text_response

HEALTHY_PATH = "/-/healthy"
READY_PATH = "/-/ready"


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """What to serve, and where."""

    telemetry_path: str = "/metrics"
    #: A gauge per CPU and bit as well.
    cpu_features: bool = False
    #: Scrapes that are answered at a time; 0: any number.
    max_requests: int = 40
    #: How it is with the web configuration, where there is one.
    reload: Callable[[], Reload | None] = lambda: None
    #: Families that never change.
    constant: Families = ()
    #: What is another thing at each scrape, as text.
    now: Callable[[Format], bytes] = lambda _: b""


class _State(NamedTuple):
    """What the families of a scrape are made of."""

    observation: Observation | None
    tally: Tally
    baseline: Baseline | None = None
    collected: Collected | None = None
    reload: Reload | None = None


class Site:
    """Answers requests from what the sampler has. For one event loop."""

    def __init__(self, sampler: Sampler, settings: SiteSettings, baseline: Reloaded[Baseline] | None = None) -> None:
        self._sampler = sampler
        self._settings = settings
        self._baseline = baseline
        self._scrapes = 0
        self._cache = Cache()
        self._routes = {
            "/": self._landing_page,
            HEALTHY_PATH: self._healthy,
            READY_PATH: self._ready,
            settings.telemetry_path: self._metrics,
        }

    async def handle(self, request: Request) -> Response:
        """The answer to a request, whatever it asks for."""
        route = self._routes.get(request.path)
        if route is None:
            return text_response(
                HTTPStatus.NOT_FOUND, f"Nothing here. The metrics are at {self._settings.telemetry_path}."
            )
        if request.method not in {"GET", "HEAD"}:
            return text_response(
                HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.", ("Allow", "GET, HEAD")
            )
        return await route(request)

    async def _metrics(self, request: Request) -> Response:
        if 0 < self._settings.max_requests <= self._scrapes:
            return text_response(HTTPStatus.SERVICE_UNAVAILABLE, "Too many concurrent scrapes (--web.max-requests).")
        self._scrapes += 1
        try:
            await self._sampler.current(self._patience(request))
            return self._scrape(request)
        finally:
            self._scrapes -= 1

    def _scrape(self, request: Request) -> Response:
        """What the sampler has now."""
        choice = choose_format(request.headers.get("accept", ""))
        headers = [("Content-Type", choice.content_type), ("Vary", "Accept, Accept-Encoding")]
        body, now = self._body(), self._settings.now(choice.format)
        if choose_gzip(request.headers.get("accept-encoding", "")):
            headers.append(("Content-Encoding", "gzip"))
            return Response(HTTPStatus.OK, body.gzip(choice.format, now), headers)
        return Response(HTTPStatus.OK, body.identity(choice.format, now), headers)

    def _body(self) -> Body:
        """The body for the present state; rendered again if something has changed since the last scrape."""
        state = _State(self._sampler.last, self._sampler.tally, reload=self._settings.reload())
        if self._baseline is not None:
            self._baseline.refresh()
            collected = Collected(self._baseline.success, self._baseline.seconds)
            state = state._replace(baseline=self._baseline.value, collected=collected)
        return self._cache.get(state, lambda: Body(self._families(state)))

    def _families(self, state: _State) -> Families:
        observation = state.observation
        collectors: dict[str, Collected] = {}
        if observation is not None:
            yield from machine_families(
                observation.sample, observation.boot, per_cpu_features=self._settings.cpu_features
            )
            yield from observed_families(observation)
            collectors.update(observation.collectors)
        if state.baseline is not None and state.collected is not None:
            yield from expected_families(state.baseline)
            collectors["baseline"] = state.collected
        yield from build_families()
        yield from self._settings.constant
        yield from sample_families(observation.sample if observation is not None else None, success=state.tally.success)
        yield from collector_families(collectors)
        yield from settings_families(self._sampler.limits.max_age)
        yield from counter_families(state.tally)
        if state.reload is not None:
            yield from web_config_families(state.reload)

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
        if self._baseline is not None:
            self._baseline.refresh()
        observation = await self._sampler.current(self._sampler.limits.timeout)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        page = landing_page(
            observation,
            {"Metrics": self._settings.telemetry_path, "Health": HEALTHY_PATH, "Readiness": READY_PATH},
            self._baseline.value if self._baseline is not None else None,
            success=self._sampler.tally.success,
            age=now - observation.sample.boottime if observation is not None else 0,
        )
        return Response(HTTPStatus.OK, page.encode(), list(HEADERS))

    async def _healthy(self, _: Request) -> Response:
        return text_response(HTTPStatus.OK, "kvm-exporter is healthy.")

    async def _ready(self, _: Request) -> Response:
        if self._sampler.last is None:
            return text_response(HTTPStatus.SERVICE_UNAVAILABLE, "kvm-exporter has no sample yet; its log says why.")
        return text_response(HTTPStatus.OK, "kvm-exporter is ready.")
