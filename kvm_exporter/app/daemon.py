"""The daemon: connects sampler, site and server, handles signals, and reports to the service manager."""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kvm_exporter import __version__
from kvm_exporter.app import systemd as service
from kvm_exporter.app.routes import Site, SiteSettings
from kvm_exporter.collector.observer import Observation
from kvm_exporter.collector.sampler import Limits, LiveSource, Observe, Sampler
from kvm_exporter.config.files import Reloaded
from kvm_exporter.errors import UnavailableError
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.drift import agree
from kvm_exporter.kvm.words import summary, unread
from kvm_exporter.metrics.exporter import Reload
from kvm_exporter.metrics.http import HttpCounts, HttpMetrics
from kvm_exporter.metrics.process import ProcessMetrics, python_families
from kvm_exporter.report.changes import announce
from kvm_exporter.web.addresses import Address, address_of
from kvm_exporter.web.listeners import adopt, close, listen
from kvm_exporter.web.server import Server
from kvm_exporter.web.traffic import Traffic

GRACE_SECONDS = 5.0
"""How long requests in progress may take to finish after SIGTERM."""

SWITCH_SECONDS = 0.0005
"""How long the reading thread may go on while the event loop waits for the interpreter: about a piece of a rendering.

The loop waits for it several times in each response, and Python's default is 5 ms.
"""

if TYPE_CHECKING:
    from kvm_exporter.web.guard import Web

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """The daemon's settings from the command line; flags.py documents them."""

    #: Empty: listen on the sockets that the service manager passes.
    addresses: Sequence[Address]
    limits: Limits = field(default_factory=Limits)
    telemetry_path: str = "/metrics"
    max_requests: int = 40
    cpu_features: bool = False
    exporter_metrics: bool = True
    #: Returns how many log messages were dropped.
    dropped_messages: Callable[[], int] = lambda: 0


async def serve(
    options: Options,
    source: LiveSource,
    observe: Observe,
    baseline: Reloaded[Baseline] | None = None,
    web_config: "Reloaded[Web] | None" = None,
) -> None:
    """Serve until SIGTERM or SIGINT. SIGHUP reloads the files and takes a new sample.

    ``observe`` samples ``source``, this machine. Without ``baseline`` nothing is compared with one; without
    ``web_config`` every peer is served plain HTTP. Raises ListenError if an address or socket cannot be used, and
    UnavailableError if this process cannot execute CPUID.
    """
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Install it before the first sample: the default action of SIGHUP ends the process.
    loop.add_signal_handler(signal.SIGHUP, reload.set)

    def publish(before: Observation | None, now: Observation) -> None:
        announce(before, now)
        service.notify_status(_state(sampler, baseline, web_config))

    sampler = Sampler(source, observe, options.limits, publish)
    listeners = listen(options.addresses) if options.addresses else adopt(service.listen_descriptors())
    stopping = loop.create_task(stop.wait())
    first = loop.create_task(sampler.current(options.limits.timeout))
    await asyncio.wait({first, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if isinstance(sampler.failure, UnavailableError):
        close(listeners)
        raise sampler.failure
    server = _server(options, sampler, baseline, web_config)
    server.start(listeners)
    reloads = loop.create_task(_reload_at_signals(reload, sampler, server, baseline, web_config))
    if not stop.is_set():
        _report_start(listeners, sampler, web_config)
        service.notify_ready(_state(sampler, baseline, web_config))
    _feed_watchdog(loop)
    _shorten_pauses()
    await stopping
    reloads.cancel()
    service.notify("STOPPING=1")
    await server.stop(GRACE_SECONDS)
    logger.info("stopped")
    service.flush_notifications()


def _shorten_pauses() -> None:
    """Shorten the times for which the event loop waits while a sample of thousands of CPUs is taken."""
    sys.setswitchinterval(SWITCH_SECONDS)
    # The modules and what they have made stay: the garbage collector need not go through them again.
    gc.collect()
    gc.freeze()


def _server(
    options: Options, sampler: Sampler, baseline: Reloaded[Baseline] | None, web_config: "Reloaded[Web] | None"
) -> Server:
    """Return the server of the site, with a guard in between if there is a web configuration."""
    traffic = Traffic()
    texts = [HttpMetrics(lambda: _counts(traffic, options.dropped_messages())).text]
    settings = SiteSettings(options.telemetry_path, options.cpu_features, options.max_requests)
    if options.exporter_metrics:
        settings = replace(settings, constant=python_families())
        texts.append(ProcessMetrics().text)
    settings = replace(settings, volatile=lambda form: b"".join([text(form) for text in texts]))
    if web_config is None:
        return Server(Site(sampler, settings, baseline).handle, traffic=traffic)
    from kvm_exporter.web.guard import Guard  # noqa: PLC0415 - imports ssl only if needed

    settings = replace(settings, reload=lambda: _reload(web_config))
    guard = Guard(Site(sampler, settings, baseline).handle, web_config)
    return Server(guard.handle, guard=guard, traffic=traffic)


def _reload(web_config: "Reloaded[Web]") -> Reload:
    certificate = web_config.value.certificate
    return Reload(web_config.success, web_config.timestamp, certificate.end if certificate is not None else None)


def _counts(traffic: Traffic, dropped_messages: int) -> HttpCounts:
    return HttpCounts(traffic.responses, traffic.connections, traffic.dropped, dropped_messages)


async def _reload_at_signals(
    signalled: asyncio.Event,
    sampler: Sampler,
    server: Server,
    baseline: Reloaded[Baseline] | None,
    web_config: "Reloaded[Web] | None",
) -> None:
    """Reload the files and take a new sample after each SIGHUP. Signals during a reload cause one more."""
    while True:
        await signalled.wait()
        signalled.clear()
        service.notify_reloading()
        for file in (baseline, web_config):
            if file is not None:
                file.reload()
        server.refresh()
        before, now = sampler.last, await sampler.again("signal")
        if not sampler.tally.success:
            logger.warning("sampling after SIGHUP failed; served: %s", _status(now))
        else:
            unchanged = ", nothing changed" if _unchanged(before, now) else ""
            logger.info("sampled after SIGHUP%s: %s", unchanged, _status(now))
        service.notify_ready(_state(sampler, baseline, web_config))


def _unchanged(before: Observation | None, now: Observation | None) -> bool:
    """Whether two observations show that nothing changed between them."""
    if before is None or now is None or now.fixed_at_launch is not None:
        return False
    return agree(before.sample, now.sample)


def _state(sampler: Sampler, baseline: Reloaded[Baseline] | None, web_config: "Reloaded[Web] | None") -> str:
    """Return the status of the sample that is served, and what has failed since."""
    failed = sampler.last is not None and sampler.last.sample.pinned and not sampler.tally.success
    status = f"sampling failed; served: {_status(sampler.last)}" if failed else _status(sampler.last)
    return "; ".join([status, *_reload_failures(baseline, web_config)])


def _reload_failures(baseline: Reloaded[Baseline] | None, web_config: "Reloaded[Web] | None") -> Iterator[str]:
    if baseline is not None and not baseline.success:
        yield "the baseline file is invalid" + (", keeping the previous one" if baseline.loaded else "")
    if web_config is not None and not web_config.success:
        yield "the web configuration is invalid, keeping the previous one"


def _feed_watchdog(loop: asyncio.AbstractEventLoop) -> None:
    """Notify the service manager's watchdog from the event loop, twice per watchdog interval."""
    if (seconds := service.watchdog_seconds()) is not None:
        service.notify("WATCHDOG=1")
        loop.call_later(seconds / 2, _feed_watchdog, loop)


def _report_start(listeners: Iterable[socket.socket], sampler: Sampler, web_config: "Reloaded[Web] | None") -> None:
    for listener in listeners:
        logger.info("listening on %s (%s)", address_of(listener), _protection(web_config))
    last = sampler.last
    volatile = last is not None and last.reference is not None and not last.persistent
    needs = "; the boot reference is in memory only: it needs a directory that can be written (--reference.directory)"
    hint = needs if volatile else ""
    logger.info("kvm-exporter %s: %s%s", __version__, _status(last), hint)


def _protection(web_config: "Reloaded[Web] | None") -> str:
    """Return what a peer needs to read the metrics."""
    config = web_config.value.config if web_config is not None else None
    tls, users = (config.tls, config.users) if config is not None else (None, {})
    certificates = "with client certificates, " if tls is not None and tls.needs_certificate else ""
    return f"{'with' if tls is not None else 'without'} TLS, {certificates}{'with' if users else 'without'} passwords"


def _status(observation: Observation | None) -> str:
    if observation is None:
        return "no sample yet; see the log"
    sample = observation.sample
    if not sample.pinned:
        return f"no CPU could be read: {unread(sample)}"
    cpus = f"{len(sample.sampled)} of {sample.online} CPUs sampled, {len(sample.divergent)} differ"
    fixed = f"; leaves fixed at launch ({observation.fixed_at_launch})" if observation.fixed_at_launch else ""
    return f"{summary(sample.common)}; {cpus}{fixed}"
