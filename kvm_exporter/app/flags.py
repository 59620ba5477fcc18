"""The daemon's flags: their names, their defaults, and the values that their texts stand for."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kvm_exporter.app.log import FORMATS, LEVELS
from kvm_exporter.app.routes import HEALTHY_PATH, READY_PATH
from kvm_exporter.collector.sampler import Limits
from kvm_exporter.collector.sweep import ISOLATED
from kvm_exporter.config.duration import nanoseconds
from kvm_exporter.cpuid.cpulist import parse_cpu_list
from kvm_exporter.web.addresses import TcpAddress, parse_address

DEFAULT_ADDRESS = TcpAddress("", 10401)
DEFAULT_LIMITS = Limits()

T = TypeVar("T")


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """Every flag of ``kvm-exporter serve``; those of ``--web`` are the Prometheus exporter toolkit's."""
    web = parser.add_argument_group("serving")
    web.add_argument(
        "--web.listen-address",
        dest="addresses",
        metavar="ADDRESS",
        action="append",
        type=_flag(parse_address),
        help="where to listen: host:port, [::1]:port, :port, unix:PATH or vsock://:port; may be repeated "
        f"(default: {DEFAULT_ADDRESS})",
    )
    web.add_argument(
        "--web.systemd-socket",
        dest="systemd_socket",
        action="store_true",
        help="listen on the sockets that systemd hands over (a .socket unit), and on nothing else",
    )
    web.add_argument(
        "--web.config.file",
        dest="web_config",
        metavar="FILE",
        type=Path,
        help="TLS, users, headers and rate limit as the exporter toolkit has them; read again when it changes",
    )
    web.add_argument(
        "--web.config.check",
        dest="web_config_check",
        action="store_true",
        help="say whether --web.config.file is valid, and end",
    )
    web.add_argument(
        "--web.max-requests",
        dest="max_requests",
        metavar="NUMBER",
        type=_flag(parse_max_requests),
        default=40,
        help="scrapes that are answered at a time; 0: any number (default: %(default)s)",
    )
    web.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        metavar="PATH",
        type=_flag(parse_telemetry_path),
        default="/metrics",
        help="where the metrics are (default: %(default)s)",
    )
    web.add_argument(
        "--web.disable-exporter-metrics",
        dest="exporter_metrics",
        action="store_false",
        help="leave out process_* and python_info",
    )
    sample = parser.add_argument_group("sampling")
    sample.add_argument(
        "--sample.max-age",
        dest="max_age",
        metavar="DURATION",
        type=_flag(parse_duration),
        default=DEFAULT_LIMITS.max_age,
        help="a scrape that finds the sample older takes another; 0: never by age (default: 60s)",
    )
    sample.add_argument(
        "--sample.timeout",
        dest="timeout",
        metavar="DURATION",
        type=_flag(parse_timeout),
        default=DEFAULT_LIMITS.timeout,
        help="how long a scrape waits for a sample before it gets the last good one (default: 5s)",
    )
    sample.add_argument(
        "--sample.isolated",
        dest="isolated",
        choices=ISOLATED,
        default="once",
        help="when to visit isolated and nohz_full CPUs: at the start and when others change, each time, or never "
        "(default: %(default)s)",
    )
    sample.add_argument(
        "--sample.cpus",
        dest="cpus",
        metavar="LIST",
        type=_flag(parse_cpus),
        help="visit only these CPUs, such as 0-3,8 (default: all)",
    )
    sample.add_argument(
        "--baseline.file",
        dest="baseline",
        metavar="FILE",
        type=Path,
        help="what this machine has to offer and must not; read again when it changes (default: none)",
    )
    collect = parser.add_argument_group("collecting")
    collect.add_argument(
        "--collector.host",
        dest="host",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="ask this machine's own KVM what it supports, where /dev/kvm may be opened",
    )
    collect.add_argument(
        "--collector.cpu-features",
        dest="cpu_features",
        action="store_true",
        help="a gauge per CPU and feature bit as well",
    )
    log = parser.add_argument_group("log")
    log.add_argument(
        "--log.level",
        dest="log_level",
        choices=LEVELS,
        default="info",
        help="leave out what is less severe (default: %(default)s)",
    )
    log.add_argument(
        "--log.format",
        dest="log_format",
        choices=FORMATS,
        help="how the log is written (default: journal where stderr leads there, else logfmt)",
    )


def parse_duration(text: str) -> float:
    """Seconds of a duration: ``90s``, ``1m30s``, ``500ms``, ``0``. Raises ValueError."""
    return nanoseconds(text) / 1_000_000_000


def parse_timeout(text: str) -> float:
    """Seconds, more than none. Raises ValueError."""
    seconds = parse_duration(text)
    if seconds == 0:
        raise ValueError(f"{text!r} leaves no time to sample at all; write one such as 5s")
    return seconds


def parse_max_requests(text: str) -> int:
    """A number, or 0. Raises ValueError."""
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{text!r} is not a number of scrapes; write one such as 40, or 0 for any")
    return int(text)


def parse_cpus(text: str) -> frozenset[int]:
    """A set of CPU numbers, not empty. Raises ValueError."""
    cpus = frozenset(parse_cpu_list(text))
    if not cpus:
        raise ValueError("an empty list leaves no CPU to sample; write one such as 0-3,8")
    return cpus


def parse_telemetry_path(text: str) -> str:
    """A path that nothing else is served at. Raises ValueError."""
    taken = text in {"/", HEALTHY_PATH, READY_PATH}
    if taken or not text.startswith("/") or not text.isascii() or not text.isprintable() or set(text) & set(" ?#"):
        raise ValueError(f"{text!r} is not a path for the metrics; write one such as /metrics")
    return text


def _flag(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A parser whose own message argparse shows, instead of one that names the function."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert
