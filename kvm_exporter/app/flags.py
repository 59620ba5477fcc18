"""The daemon's flags: names, defaults, help texts and parsers of their values."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kvm_exporter.app.log import FORMATS, LEVELS
from kvm_exporter.app.routes import HEALTHY_PATH, READY_PATH
from kvm_exporter.collector.sampler import Limits
from kvm_exporter.collector.sweep import ISOLATED
from kvm_exporter.config.duration import ALL_UNITS, nanoseconds
from kvm_exporter.cpuid.cpulist import parse_cpu_list
from kvm_exporter.web.addresses import TcpAddress, parse_address

DEFAULT_ADDRESS = TcpAddress("", 10401)
DEFAULT_LIMITS = Limits()

T = TypeVar("T")


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``kvm-exporter serve`` to a parser.

    The ``--web`` flags have the names of the Prometheus exporter toolkit and of node_exporter.
    """
    web = parser.add_argument_group("serving")
    web.add_argument(
        "--web.listen-address",
        dest="addresses",
        metavar="ADDRESS",
        action="append",
        type=_flag(parse_address),
        help="address to listen on: host:port, [::1]:port, :port, unix:PATH or vsock://:port; may be repeated "
        f"(default: {DEFAULT_ADDRESS})",
    )
    web.add_argument(
        "--web.systemd-socket",
        dest="systemd_socket",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="listen only on the sockets that systemd passes (from a .socket unit)",
    )
    web.add_argument(
        "--web.config.file",
        dest="web_config",
        metavar="FILE",
        type=parse_optional_path,
        help="TLS, users, headers and rate limit, in the exporter toolkit's format; reloaded when it changes "
        "(default: none)",
    )
    web.add_argument(
        "--web.config.check",
        dest="web_config_check",
        action="store_true",
        help="validate --web.config.file and exit",
    )
    web.add_argument(
        "--web.max-requests",
        dest="max_requests",
        metavar="NUMBER",
        type=_flag(parse_max_requests),
        default=40,
        help="maximum number of concurrent scrapes; 0 for unlimited (default: %(default)s)",
    )
    web.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        metavar="PATH",
        type=_flag(parse_telemetry_path),
        default="/metrics",
        help="path of the metrics (default: %(default)s)",
    )
    web.add_argument(
        "--web.disable-exporter-metrics",
        dest="disable_exporter_metrics",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="leave out process_* and python_info",
    )
    sample = parser.add_argument_group("sampling")
    add_max_age_flag(sample, "take a new sample when a scrape finds the current one older than this; 0 disables")
    sample.add_argument(
        "--sample.timeout",
        dest="timeout",
        metavar="DURATION",
        type=_flag(parse_timeout),
        default=DEFAULT_LIMITS.timeout,
        help="how long a scrape waits for a new sample before the last good one is served (default: 5s)",
    )
    sample.add_argument(
        "--sample.isolated",
        dest="isolated",
        choices=ISOLATED,
        default="once",
        help="when to sample isolated and nohz_full CPUs: at start and when other CPUs change, always, or never "
        "(default: %(default)s)",
    )
    sample.add_argument(
        "--sample.cpus",
        dest="cpus",
        metavar="LIST",
        type=_flag(parse_cpus),
        help="sample only these CPUs, such as 0-3,8 (default: all)",
    )
    add_reference_flag(sample)
    sample.add_argument(
        "--config.check",
        dest="config_check",
        action="store_true",
        help="validate the files of --web.config.file and --baseline.file and exit",
    )
    sample.add_argument(
        "--baseline.file",
        dest="baseline",
        metavar="FILE",
        type=Path,
        help="features that the hypervisor must and must not offer; reloaded when it changes (default: none)",
    )
    collect = parser.add_argument_group("collecting")
    collect.add_argument(
        "--collector.host",
        dest="host",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="export the features that this machine's own KVM supports, if /dev/kvm can be opened",
    )
    collect.add_argument(
        "--collector.cpu-features",
        dest="cpu_features",
        action="store_true",
        help="also export a gauge per CPU and feature bit",
    )
    log = parser.add_argument_group("log")
    log.add_argument(
        "--log.level",
        dest="log_level",
        choices=LEVELS,
        default="info",
        help="minimum severity to log (default: %(default)s)",
    )
    log.add_argument(
        "--log.format",
        dest="log_format",
        choices=FORMATS,
        help="log format (default: journal if stderr is connected to it, else logfmt)",
    )


def add_max_age_flag(parser: argparse._ActionsContainer, meaning: str) -> None:
    """``--sample.max-age``, which the daemon and ``textfile`` share."""
    parser.add_argument(
        "--sample.max-age",
        dest="max_age",
        metavar="DURATION",
        type=_flag(parse_duration),
        default=DEFAULT_LIMITS.max_age,
        help=f"{meaning} (default: 60s)",
    )


def add_reference_flag(parser: argparse._ActionsContainer) -> None:
    """``--reference.directory``, which the daemon and ``show`` share."""
    parser.add_argument(
        "--reference.directory",
        dest="reference_directory",
        metavar="DIR",
        type=Path,
        help="where the boot reference is kept across restarts (default: $RUNTIME_DIRECTORY)",
    )


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as ``90s``, ``1m30s``, ``500ms``, ``1d`` or ``0``. Raises ValueError."""
    return nanoseconds(text, ALL_UNITS) / 1_000_000_000


def parse_timeout(text: str) -> float:
    """Return the seconds of a duration, which must be greater than zero. Raises ValueError."""
    seconds = parse_duration(text)
    if seconds == 0:
        raise ValueError(f"{text!r} must be greater than zero; use a duration such as 5s")
    return seconds


def parse_max_requests(text: str) -> int:
    """Return a maximum number of concurrent scrapes; 0 means unlimited. Raises ValueError."""
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{text!r} is not a number of scrapes; use one such as 40, or 0 for unlimited")
    return int(text)


def parse_optional_path(text: str) -> Path | None:
    """Return a path, or None for an empty text, the exporter toolkit's default of ``--web.config.file``."""
    return Path(text) if text else None


def parse_cpus(text: str) -> frozenset[int]:
    """Return the CPU numbers of a list such as ``0-3,8``, which must not be empty. Raises ValueError."""
    cpus = frozenset(parse_cpu_list(text))
    if not cpus:
        raise ValueError("the list of CPUs is empty; use one such as 0-3,8")
    return cpus


def parse_telemetry_path(text: str) -> str:
    """Return the path of the metrics, which must not be one of the other pages. Raises ValueError."""
    taken = text in {"/", HEALTHY_PATH, READY_PATH}
    if taken or not text.startswith("/") or not text.isascii() or not text.isprintable() or set(text) & set(" ?#"):
        raise ValueError(f"{text!r} cannot be the path of the metrics; use one such as /metrics")
    return text


def _flag(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Wrap a parser so that argparse shows the message of its ValueError, not a generic one."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert
