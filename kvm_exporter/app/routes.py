"""The HTTP routes: metrics, the landing page, health and readiness."""

import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from kvm_exporter.app.documentation import documentation
from kvm_exporter.collector.observer import Collected, Observation
from kvm_exporter.collector.sampler import Sampler, Tally
from kvm_exporter.config.files import Reloaded
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.words import unread
from kvm_exporter.metrics.baseline import baseline_families
from kvm_exporter.metrics.exporter import (
    Reload,
    build_families,
    collector_families,
    counter_families,
    sample_families,
    settings_families,
    web_config_families,
)
from kvm_exporter.metrics.exposition import Cache, Families
from kvm_exporter.metrics.machine import machine_families, observed_families
from kvm_exporter.metrics.negotiation import Format, choose_format, choose_gzip
from kvm_exporter.report.findings import findings
from kvm_exporter.report.page import HEADERS, landing_page
from kvm_exporter.web.http import ALLOWED, Request, Response, method_not_allowed, text_response

HEALTHY_PATH = "/-/healthy"
READY_PATH = "/-/ready"


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """What the site serves."""

    telemetry_path: str = "/metrics"
    #: Whether to add a gauge per CPU and feature bit.
    cpu_features: bool = False
    #: Maximum number of concurrent scrapes; 0: unlimited.
    max_requests: int = 40
    #: Returns the result of the web configuration's last reload; None if there is no web configuration.
    reload: Callable[[], Reload | None] = lambda: None
    #: Families that never change.
    constant: Families = ()
    #: Renders, in a format, the metrics that change with every scrape.
    volatile: Callable[[Format], bytes] = lambda _: b""


class _State(NamedTuple):
    """Everything that the cached part of a scrape's body depends on."""

    observation: Observation | None
    tally: Tally
    baseline: Baseline | None = None
    collected: Collected | None = None
    reload: Reload | None = None


class Site:
    """Handles requests with the sampler's observations. For use in one event loop."""

    def __init__(self, sampler: Sampler, settings: SiteSettings, baseline: Reloaded[Baseline] | None = None) -> None:
        self._sampler = sampler
        self._settings = settings
        self._baseline = baseline
        self._scrapes = 0
        self._cache = Cache(self._families)
        #: The links on the landing page, which are relative there: behind a proxy the paths may have a prefix.
        self._links = {"Metrics": settings.telemetry_path, "Health": HEALTHY_PATH, "Readiness": READY_PATH}
        self._routes = {
            "/": self._landing_page,
            HEALTHY_PATH: self._healthy,
            READY_PATH: self._ready,
            settings.telemetry_path: self._metrics,
        }

    async def handle(self, request: Request) -> Response:
        """Return the response to a request."""
        if request.method == "OPTIONS":
            return Response(HTTPStatus.NO_CONTENT, b"", [("Allow", ", ".join(ALLOWED))])
        route = self._routes.get(request.path)
        if route is None:
            return text_response(
                HTTPStatus.NOT_FOUND, f"Not found. The metrics are at {self._settings.telemetry_path}."
            )
        if request.method not in ALLOWED:
            return method_not_allowed()
        return await route(request)

    async def _metrics(self, request: Request) -> Response:
        if 0 < self._settings.max_requests <= self._scrapes:
            return text_response(HTTPStatus.SERVICE_UNAVAILABLE, "Too many concurrent scrapes (--web.max-requests).")
        self._scrapes += 1
        try:
            await self._sampler.current(self._max_wait(request))
            return await self._scrape(request)
        finally:
            self._scrapes -= 1

    async def _scrape(self, request: Request) -> Response:
        """Return the metrics of the last observation, in the format and encoding that the request accepts."""
        choice = choose_format(request.headers.get("accept", ""))
        headers = [("Content-Type", choice.content_type), ("Vary", "Accept, Accept-Encoding")]
        body = await self._cache.get(self._state(), choice.format)
        now = self._settings.volatile(choice.format)
        if choose_gzip(request.headers.get("accept-encoding", "")):
            headers.append(("Content-Encoding", "gzip"))
            return Response(HTTPStatus.OK, body.gzip(now), headers)
        return Response(HTTPStatus.OK, body.identity(now), headers)

    def _state(self) -> _State:
        state = _State(self._sampler.last, self._sampler.tally, reload=self._settings.reload())
        if self._baseline is None:
            return state
        self._baseline.refresh()
        collected = Collected(self._baseline.success, self._baseline.seconds)
        return state._replace(baseline=self._baseline.value, collected=collected)

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
            yield from baseline_families(state.baseline, observation.sample if observation is not None else None)
            collectors["baseline"] = state.collected
        yield from build_families()
        yield from self._settings.constant
        yield from sample_families(observation.sample if observation is not None else None, success=state.tally.success)
        yield from collector_families(collectors)
        yield from settings_families(self._sampler.limits.max_age)
        yield from counter_families(state.tally)
        if state.reload is not None:
            yield from web_config_families(state.reload)

    def _max_wait(self, request: Request) -> float:
        """Return how long a scrape may wait for a sample, in seconds.

        That is the scraper's own timeout, from its header, less 0.5 s for the response (at most half of the timeout),
        and never longer than --sample.timeout.
        """
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
        found = findings(
            observation,
            self._baseline.value if self._baseline is not None else None,
            success=self._sampler.tally.success,
            baseline_valid=self._baseline is None or self._baseline.success,
        )
        page = landing_page(
            observation,
            found,
            {name: path.removeprefix("/") for name, path in self._links.items()},
            documentation=documentation(),
            host=socket.gethostname(),
            age=now - observation.sample.boottime if observation is not None else 0,
        )
        return Response(HTTPStatus.OK, page.encode(), list(HEADERS))

    async def _healthy(self, _: Request) -> Response:
        return text_response(HTTPStatus.OK, "kvm-exporter is healthy.")

    async def _ready(self, _: Request) -> Response:
        last = self._sampler.last
        if last is not None and not last.sample.pinned:
            why = f"kvm-exporter is not ready: no CPU could be read: {unread(last.sample)}."
            return text_response(HTTPStatus.SERVICE_UNAVAILABLE, why)
        if last is None:
            return text_response(HTTPStatus.SERVICE_UNAVAILABLE, "kvm-exporter has no sample yet; see its log.")
        return text_response(HTTPStatus.OK, "kvm-exporter is ready.")
