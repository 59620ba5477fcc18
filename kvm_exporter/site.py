"""What is served at which path: metrics, the landing page, health."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from prometheus_client.core import Metric

from kvm_exporter.baseline import Baseline
from kvm_exporter.drift_metrics import expected_families, observed_families
from kvm_exporter.exposition import Body
from kvm_exporter.messages import Request, Response, plain
from kvm_exporter.metrics import machine_families
from kvm_exporter.negotiation import choose_format, choose_gzip
from kvm_exporter.observation import Collected, Observation
from kvm_exporter.page import HEADERS, landing_page
from kvm_exporter.sampler import Sampler
from kvm_exporter.self_metrics import (
    build_families,
    collector_families,
    counter_families,
    sample_families,
    settings_families,
)

HEALTHY_PATH = "/-/healthy"
READY_PATH = "/-/ready"


class BaselineKeeper(Protocol):
    """Who has the baseline: baseline_file.py's, which is imported only where there is a file."""

    baseline: Baseline
    collected: Collected

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        ...

    def reload(self) -> None:
        """Read the file again."""
        ...


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """What to serve, and where."""

    telemetry_path: str = "/metrics"
    #: A gauge per CPU and bit as well.
    cpu_features: bool = False
    #: Scrapes that are answered at a time; 0: any number.
    max_requests: int = 40
    #: More families, collected at each scrape.
    live: Callable[[], Iterable[Metric]] = tuple


class Site:
    """Answers requests from what the sampler has. For one event loop."""

    def __init__(self, sampler: Sampler, settings: SiteSettings, baseline: BaselineKeeper | None = None) -> None:
        self._sampler = sampler
        self._settings = settings
        self._baseline = baseline
        self._scrapes = 0
        self._fixed: tuple[Observation | None, Baseline | None, Body] | None = None
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
            return await self._scrape(request)
        finally:
            self._scrapes -= 1

    async def _scrape(self, request: Request) -> Response:
        if self._baseline is not None:
            self._baseline.refresh()
        observation = await self._sampler.current(self._patience(request))
        choice = choose_format(request.headers.get("accept", ""))
        headers = [("Content-Type", choice.content_type), ("Vary", "Accept, Accept-Encoding")]
        body = self._body(observation)
        if choose_gzip(request.headers.get("accept-encoding", "")):
            return Response(
                HTTPStatus.OK, body.gzip(self._live(), choice.format), [*headers, ("Content-Encoding", "gzip")]
            )
        return Response(HTTPStatus.OK, body.identity(self._live(), choice.format), headers)

    def _body(self, observation: Observation | None) -> Body:
        """The body around an observation and a baseline; another of either needs another."""
        baseline = self._baseline.baseline if self._baseline is not None else None
        if self._fixed is None or self._fixed[0] is not observation or self._fixed[1] is not baseline:
            self._fixed = observation, baseline, Body(self._families(observation, baseline))
        return self._fixed[2]

    def _families(self, observation: Observation | None, baseline: Baseline | None) -> Iterator[Metric]:
        if observation is not None:
            yield from machine_families(
                observation.sample, observation.boot, per_cpu_features=self._settings.cpu_features
            )
            yield from observed_families(observation)
        if baseline is not None:
            yield from expected_families(baseline)
        yield from build_families()

    def _live(self) -> Iterator[Metric]:
        record, last = self._sampler.record, self._sampler.last
        yield from sample_families(last.sample if last is not None else None, success=record.success)
        yield from collector_families(self._collectors())
        yield from settings_families(self._sampler.limits.max_age)
        yield from counter_families(record)
        yield from self._settings.live()

    def _collectors(self) -> Mapping[str, Collected]:
        collected = dict(self._sampler.last.collectors) if self._sampler.last is not None else {}
        if self._baseline is not None:
            collected["baseline"] = self._baseline.collected
        return collected

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
            self._baseline.baseline if self._baseline is not None else None,
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
