"""kvm_exporter.app.routes: the response of each path, and how long a scrape waits for a sample."""

import asyncio
import gzip
import zlib
from http import HTTPStatus

import pytest

from kvm_exporter.app.routes import Site, SiteSettings
from kvm_exporter.collector.observer import Observation, Observer
from kvm_exporter.collector.sampler import Limits, Sampler
from kvm_exporter.collector.sweep import CpuSelection
from kvm_exporter.errors import ReadError
from kvm_exporter.metrics.exporter import Reload
from kvm_exporter.metrics.exposition import PIECE_SERIES
from kvm_exporter.metrics.negotiation import Format
from kvm_exporter.web.http import Request, Response
from lab.live import LiveMachine, live_machine
from lab.patience import PATIENCE_SECONDS
from lab.scrape import Scrape
from tests.support.rooms.loop import in_loop

DEFAULT = 0x0100007B


def sampler(machine: LiveMachine, limits: Limits | None = None) -> Sampler:
    """Return a sampler of a machine, without the host collector."""
    return Sampler(machine, Observer(machine, CpuSelection(), None, host=False).observe, limits or Limits())


async def ask(site: Site, path: str, method: str = "GET", **headers: str) -> Response:
    """Return the response to a request."""
    return await site.handle(Request(method, path, {name.replace("_", "-"): value for name, value in headers.items()}))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "status", "content_type", "text"),
    [
        ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8", "kvm_present 1.0\n"),
        ("/", 200, "text/html; charset=utf-8", '<a href="metrics">'),
        ("/-/healthy", 200, "text/plain; charset=utf-8", "kvm-exporter is healthy.\n"),
        ("/-/ready", 200, "text/plain; charset=utf-8", "kvm-exporter is ready.\n"),
        ("/metrics/", 404, "text/plain; charset=utf-8", "Not found. The metrics are at /metrics.\n"),
        ("/favicon.ico", 404, "text/plain; charset=utf-8", "Not found. The metrics are at /metrics.\n"),
        ("*", 404, "text/plain; charset=utf-8", "Not found. The metrics are at /metrics.\n"),
    ],
)
@in_loop
async def test_paths(path: str, status: int, content_type: str, text: str, method: str) -> None:
    """Each path has its response; HEAD gets that of GET, whose body is removed when it is sent."""
    keeper = sampler(live_machine(DEFAULT))
    await keeper.current(10)
    response = await ask(Site(keeper, SiteSettings()), path, method)
    assert (response.status, dict(response.headers)["Content-Type"]) == (status, content_type)
    assert text in response.body.decode()


@in_loop
async def test_options() -> None:
    """Load balancers check by OPTIONS, and get 204 with Allow at every path."""
    for path in ("/metrics", "*"):
        response = await ask(Site(sampler(live_machine(DEFAULT)), SiteSettings()), path, "OPTIONS")
        assert (response.status, response.body, response.headers) == (204, b"", [("Allow", "GET, HEAD, OPTIONS")])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "get"])
@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready"])
@in_loop
async def test_other_methods_are_told_which_there_are(path: str, method: str) -> None:
    """Other methods get 405 with Allow at every path that exists."""
    response = await ask(Site(sampler(live_machine(DEFAULT)), SiteSettings()), path, method)
    assert (response.status, dict(response.headers)["Allow"]) == (405, "GET, HEAD, OPTIONS")


@in_loop
async def test_the_metrics_may_be_elsewhere() -> None:
    """The metrics are served at the configured path only, and the landing page links to it."""
    site = Site(sampler(live_machine(DEFAULT)), SiteSettings(telemetry_path="/kvm"))
    assert (await ask(site, "/kvm")).status == 200
    missing = await ask(site, "/metrics")
    assert (missing.status, missing.body) == (404, b"Not found. The metrics are at /kvm.\n")
    assert b'<a href="kvm">' in (await ask(site, "/")).body


@in_loop
async def test_before_the_first_sample() -> None:
    """Before the first sample the exporter is healthy and not ready, and has no metrics of the machine."""
    machine = live_machine(DEFAULT)
    machine.fault = ReadError("not yet")
    site = Site(sampler(machine), SiteSettings())
    assert (await ask(site, "/-/healthy")).status == 200
    ready = await ask(site, "/-/ready")
    assert (ready.status, ready.body) == (503, b"kvm-exporter has no sample yet; see its log.\n")
    scrape = Scrape((await ask(site, "/metrics")).body.decode())
    assert scrape.value("kvm_exporter_sample_success") == 0
    assert scrape.value("kvm_exporter_sample_failures_total", cause="error") == 1
    assert {name for name in scrape.names if not name.startswith("kvm_exporter_")} == set()
    assert b"No sample yet" in (await ask(site, "/")).body
    machine.fault = None
    assert Scrape((await ask(site, "/metrics")).body.decode()).value("kvm_present") == 1
    assert (await ask(site, "/-/ready")).status == 200


@in_loop
async def test_a_body_is_compressed_for_those_who_take_it() -> None:
    """The compressed body is equal after decompression, and Vary names the headers that it depends on."""
    site = Site(sampler(live_machine(DEFAULT), Limits(max_age=0)), SiteSettings())
    plain = await ask(site, "/metrics")
    small = await ask(site, "/metrics", accept_encoding="gzip")
    assert gzip.decompress(small.body) == plain.body
    assert zlib.decompress(small.body, wbits=31) == plain.body
    assert len(small.body) < len(plain.body)
    assert "Content-Encoding" not in dict(plain.headers)
    assert dict(small.headers)["Content-Encoding"] == "gzip"
    assert dict(plain.headers)["Vary"] == dict(small.headers)["Vary"] == "Accept, Accept-Encoding"


@in_loop
async def test_what_changes_is_current_at_every_scrape() -> None:
    """The text for one response is new at each scrape, although the sample is rendered once."""
    numbers = iter(range(1, 4))

    def process(form: Format) -> bytes:
        assert form is Format.TEXT_0_0_4
        return b"process_scrapes %d\n" % next(numbers)

    site = Site(sampler(live_machine(DEFAULT), Limits(max_age=0)), SiteSettings(volatile=process))
    scrapes = [Scrape((await ask(site, "/metrics")).body.decode()) for _ in range(3)]
    assert [scrape.value("process_scrapes") for scrape in scrapes] == [1, 2, 3]
    assert [scrape.value("kvm_exporter_samples_total", reason="start") for scrape in scrapes] == [1, 1, 1]


@in_loop
async def test_probes_go_on_while_a_sample_of_many_cpus_is_rendered() -> None:
    """Between the start and the end of a scrape's rendering, the loop answers a probe for every piece of it."""
    cpus, probes = 64, 0
    keeper = sampler(live_machine(*[DEFAULT] * cpus))
    await keeper.current(PATIENCE_SECONDS)
    site = Site(keeper, SiteSettings())
    scrape = asyncio.create_task(ask(site, "/metrics"))
    while not scrape.done():
        assert (await ask(site, "/-/ready")).status == 200
        probes += 1
        await asyncio.sleep(0)
    assert Scrape(scrape.result().body.decode()).value("kvm_cpus_online") == cpus
    assert probes > 2 * cpus / PIECE_SERIES


@in_loop
async def test_every_attempt_is_counted_at_the_next_scrape() -> None:
    """A failed attempt is counted at the next scrape, although the same sample is served again."""
    machine = live_machine(DEFAULT)
    keeper = sampler(machine)
    site = Site(keeper, SiteSettings())
    await ask(site, "/metrics")
    machine.fault = ReadError("not now")
    await keeper.again("signal")
    scrape = Scrape((await ask(site, "/metrics")).body.decode())
    assert scrape.value("kvm_exporter_samples_total", reason="signal") == 1
    assert scrape.value("kvm_exporter_sample_failures_total", cause="error") == 1
    assert scrape.value("kvm_exporter_sample_success") == 0


@in_loop
async def test_a_reload_of_the_web_configuration_shows() -> None:
    """The outcome and the time of the last reload are metrics, and the end of the certificate, if there is one."""
    reloads = iter(
        [None, Reload(successful=True, timestamp=5, certificate_end=7), Reload(successful=False, timestamp=6)]
    )
    site = Site(sampler(live_machine(DEFAULT)), SiteSettings(reload=lambda: next(reloads)))
    name = "kvm_exporter_web_config_last_reload"
    scrapes = [Scrape((await ask(site, "/metrics")).body.decode()) for _ in range(3)]
    assert f"{name}_successful" not in scrapes[0].names
    assert [
        (scrape.value(f"{name}_successful"), scrape.value(f"{name}_timestamp_seconds")) for scrape in scrapes[1:]
    ] == [(1, 5), (0, 6)]
    expiry = "kvm_exporter_web_certificate_expiry_timestamp_seconds"
    assert [expiry in scrape.names for scrape in scrapes] == [False, True, False]
    assert scrapes[1].value(expiry) == 7


class Patience(Sampler):
    """A sampler that notes the time that each scrape may wait."""

    def __init__(self) -> None:
        machine = live_machine(DEFAULT)
        super().__init__(machine, Observer(machine, CpuSelection(), None, host=False).observe, Limits(timeout=5))
        self.asked: list[float] = []

    async def current(self, patience: float) -> Observation | None:
        """Note the time, and return the current observation."""
        self.asked.append(patience)
        return await super().current(patience)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("10", 5),
        ("5.5", 5),
        ("3", 2.5),
        ("1", 0.5),
        ("0.5", 0.25),
        ("0.1", 0.05),
        ("", 5),
        ("soon", 5),
        ("0", 5),
        ("-1", 5),
        ("nan", 5),
        ("inf", 5),
        ("1e400", 5),
    ],
)
@in_loop
async def test_a_scrape_waits_for_less_than_its_scraper(header: str, seconds: float) -> None:
    """A scrape waits 0.5 s less than Prometheus, or half of Prometheus' time, and never more than --sample.timeout."""
    keeper = Patience()
    await ask(Site(keeper, SiteSettings()), "/metrics", x_prometheus_scrape_timeout_seconds=header)
    assert keeper.asked == [seconds]


@in_loop
async def test_a_scrape_that_has_waited_is_served_what_there_was() -> None:
    """While the machine does not respond, the last good sample is served in time, with success 0."""
    machine = live_machine(DEFAULT)
    site = Site(sampler(machine, Limits(max_age=1e-9, timeout=20)), SiteSettings())
    before = Scrape((await ask(site, "/metrics")).body.decode())
    with machine.shut():
        async with asyncio.timeout(PATIENCE_SECONDS):
            late = await ask(site, "/metrics", x_prometheus_scrape_timeout_seconds="0.1")
    scrape = Scrape(late.body.decode())
    assert (late.status, scrape.value("kvm_exporter_sample_success")) == (HTTPStatus.OK, 0)
    assert scrape.value("kvm_exporter_sample_failures_total", cause="timeout") == 0
    for name in ("kvm_exporter_sample_timestamp_seconds", "kvm_present", "kvm_cpus_online"):
        assert scrape.value(name) == before.value(name)
