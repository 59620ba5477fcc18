"""The daemon: puts the sampler, the site and the server together, and obeys signals and the service manager."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.core import Metric

from kvm_exporter import __version__, service
from kvm_exporter.addresses import TcpAddress, listen
from kvm_exporter.announcements import announce
from kvm_exporter.observation import Observation
from kvm_exporter.registers import UnavailableError
from kvm_exporter.report import summary
from kvm_exporter.sampler import Limits, LiveSource, Observe, Sampler
from kvm_exporter.server import Server
from kvm_exporter.site import BaselineKeeper, Site, SiteSettings

GRACE_SECONDS = 5.0
"""How long answers may take to end after SIGTERM."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What the daemon is told on its command line."""

    addresses: Sequence[TcpAddress]
    limits: Limits = field(default_factory=Limits)
    telemetry_path: str = "/metrics"
    cpu_features: bool = False
    exporter_metrics: bool = True


async def serve(options: Options, source: LiveSource, observe: Observe, baseline: BaselineKeeper | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Raises AddressError if it cannot listen, UnavailableError if CPUID is not."""
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # From the beginning: what a signal does that nobody handles is to end the process.
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    listeners = [listener for address in options.addresses for listener in listen(address)]
    sampler = Sampler(source, observe, options.limits, _publish)
    await sampler.current(options.limits.timeout)
    if isinstance(sampler.failure, UnavailableError):
        raise sampler.failure
    process = _process_families(enabled=options.exporter_metrics)
    site = Site(sampler, SiteSettings(options.telemetry_path, options.cpu_features, process), baseline)
    server = Server(site.answer)
    server.start(listeners)
    _announce(listeners, sampler)
    reloads = loop.create_task(_reload_at_signals(reload, sampler, baseline))
    _feed_watchdog(loop)
    await stop.wait()
    reloads.cancel()
    service.notify_stopping()
    await server.stop(GRACE_SECONDS)
    logger.info("stopped")


async def _reload_at_signals(signalled: asyncio.Event, sampler: Sampler, baseline: BaselineKeeper | None) -> None:
    """Reload after each signal; those that come meanwhile are answered by one more."""
    while True:
        await signalled.wait()
        signalled.clear()
        await _reload(sampler, baseline)


async def _reload(sampler: Sampler, baseline: BaselineKeeper | None) -> None:
    service.notify_reloading()
    if baseline is not None:
        baseline.reload()
    await sampler.again("signal")
    broken = baseline is not None and not baseline.collected.success
    status = _status(sampler.last) + ("; the baseline's file is broken, the last good one holds" if broken else "")
    service.notify_ready(status)


def _feed_watchdog(loop: asyncio.AbstractEventLoop) -> None:
    """Tell the service manager that the event loop turns, twice in the time that it allows."""
    if (seconds := service.watchdog_seconds()) is not None:
        service.notify("WATCHDOG=1")
        loop.call_later(seconds / 2, _feed_watchdog, loop)


def _publish(before: Observation | None, now: Observation) -> None:
    """Tell the log what is new, and the service manager how it is."""
    announce(before, now)
    if before is None or _status(before) != _status(now):
        service.notify(f"STATUS={_status(now)}")


def _announce(listeners: Iterable[socket.socket], sampler: Sampler) -> None:
    for listener in listeners:
        host, port, *_ = listener.getsockname()
        logger.info("listening on %s", TcpAddress(host, port))
    status = _status(sampler.last)
    logger.info("kvm-exporter %s: %s", __version__, status)
    service.notify_ready(status)


def _status(observation: Observation | None) -> str:
    if observation is None:
        return "no sample yet; the log says why"
    sample = observation.sample
    cpus = f"{len(sample.sampled)} of {sample.online} CPUs sampled, {len(sample.divergent)} differ"
    return f"{summary(sample.common)}; {cpus}"


def _process_families(*, enabled: bool) -> Callable[[], Iterable[Metric]]:
    if not enabled:
        return lambda: ()
    platform = list(PlatformCollector(registry=None).collect())
    process = ProcessCollector(registry=None)
    return lambda: [*process.collect(), *platform]
