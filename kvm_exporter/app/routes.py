"""What is served at which path: metrics, the landing page, health."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from kvm_exporter.collector.observer import Collected, Observation
from kvm_exporter.collector.sampler import Record, Sampler
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
from kvm_exporter.metrics.exposition import Body, Families, Kept
from kvm_exporter.metrics.machine import expected_families, machine_families, observed_families
from kvm_exporter.metrics.negotiation import Format, choose_format, choose_gzip
from kvm_exporter.report.page import HEADERS, landing_page
from kvm_exporter.web.http import Request, Response, plain

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


class Site:
    """Answers requests from what the sampler has. For one event loop."""

    def __init__(self, sampler: Sampler, settings: SiteSettings, baseline: Reloaded[Baseline] | None = None) -> None:
        self._sampler = sampler
        self._settings = settings
        self._baseline = baseline
        self._scrapes = 0
        self._machine, self._whole = Kept(), Kept()
        self._routes = {
            "/": self._landing_page,
            HEALTHY_PATH: self._healthy,
            READY_PATH: self._ready,
            settings.telemetry_path: self._metrics,
        }

    async def answer(self, request: Request) -> Response:
        """The answer to a request, whatever it asks for."""
        route = self._routes.get(request.path)
        if route is None:
            return plain(HTTPStatus.NOT_FOUND, f"Nothing here. The metrics are at {self._settings.telemetry_path}.")
        if request.method not in {"GET", "HEAD"}:
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.", ("Allow", "GET, HEAD"))
        return await route(request)

    async def _metrics(self, request: Request) -> Response:
        if 0 < self._settings.max_requests <= self._scrapes:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "As many scrapes as --web.max-requests allows go on already.")
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
        """The body of now: rendered again as far as something has changed since the last scrape."""
        observation, record, reload = self._sampler.last, self._sampler.record, self._settings.reload()
        baseline = collected = None
        if self._baseline is not None:
            self._baseline.refresh()
            baseline = self._baseline.value
            collected = Collected(self._baseline.success, self._baseline.seconds)
        machine = self._machine.of((observation, baseline), lambda: Body(self._machine_families(observation, baseline)))
        return self._whole.of(
            (machine, record, collected, reload),
            lambda: machine.then(self._own_families(observation, record, collected, reload)),
        )

    def _machine_families(self, observation: Observation | None, baseline: Baseline | None) -> Families:
        if observation is not None:
            yield from machine_families(
                observation.sample, observation.boot, per_cpu_features=self._settings.cpu_features
            )
            yield from observed_families(observation)
        if baseline is not None:
            yield from expected_families(baseline)
        yield from build_families()
        yield from self._settings.constant

    def _own_families(
        self, observation: Observation | None, record: Record, baseline: Collected | None, reload: Reload | None
    ) -> Families:
        collected = dict(observation.collectors) if observation is not None else {}
        if baseline is not None:
            collected["baseline"] = baseline
        yield from sample_families(observation.sample if observation is not None else None, success=record.success)
        yield from collector_families(collected)
        yield from settings_families(self._sampler.limits.max_age)
        yield from counter_families(record)
        if reload is not None:
            yield from web_config_families(reload)

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
            success=self._sampler.record.success,
            age=now - observation.sample.boottime if observation is not None else 0,
        )
        return Response(HTTPStatus.OK, page.encode(), list(HEADERS))

    async def _healthy(self, _: Request) -> Response:
        return plain(HTTPStatus.OK, "kvm-exporter is healthy.")

    async def _ready(self, _: Request) -> Response:
        if self._sampler.last is None:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "kvm-exporter has no sample yet; its log says why.")
        return plain(HTTPStatus.OK, "kvm-exporter is ready.")
