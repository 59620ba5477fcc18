"""The command line of the generator: what to write where, and a flag for each setting."""

import argparse
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from settings import Settings

OF_SERIES = frozenset({"instance", "feature", "register", "bit", "fingerprint", "problem", "alertname", "severity"})
"""Labels that cannot define a cohort, because the machines of one cohort differ in them, or rules set them."""

T = TypeVar("T")

_LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
_MATCHER = rf'{_LABEL}(?:=~|!~|!=|=)"(?:[^"\\\n]|\\.)+"'


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; the values that it finds are those of ``Settings`` and of what is to be written."""
    parser = argparse.ArgumentParser(
        description="Write rules and alerts for Prometheus, and provisioning and dashboards for Grafana.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, required=True, help="where to write; files there are replaced"
    )
    parser.add_argument(
        "--dashboards",
        action="store_true",
        help="write the dashboards too; this needs the Python package grafana-foundation-sdk",
    )
    parser.add_argument(
        "--operator",
        action="store_true",
        help="write each rule file as a PrometheusRule, the custom resource of the Prometheus operator",
    )
    default = Settings()
    parser.set_defaults(**{field.name: getattr(default, field.name) for field in fields(Settings)})

    fleet = parser.add_argument_group("the fleet")
    fleet.add_argument(
        "--exporters",
        metavar="MATCHERS",
        type=_flag(matchers),
        help="label matchers that select the exporters among all targets of Prometheus (default: %(default)s)",
    )
    fleet.add_argument(
        "--cohort",
        metavar="LABELS",
        type=_flag(cohort),
        help="comma-separated labels; machines that are equal in them should be offered the same features "
        f"(default: {','.join(default.cohort)})",
    )
    fleet.add_argument(
        "--runbooks",
        metavar="URL",
        type=_flag(url),
        help="where operators read runbooks.md: alerts link to its sections (default: alerts quote it)",
    )

    shared = parser.add_argument_group("a fleet that several Prometheus servers share")
    shared.add_argument(
        "--ranked",
        metavar="NUMBER",
        type=_flag(whole),
        help="how many machines each server ranks at most, those with the worst problems (default: %(default)s)",
    )
    shared.add_argument(
        "--shard-sources",
        metavar="PREFIX",
        type=_flag(prefix),
        help="what the names of Grafana's data sources for these servers begin with, before the value of the label "
        "shard (default: %(default)s)",
    )

    limits = parser.add_argument_group("thresholds")
    limits.add_argument(
        "--down-share",
        metavar="SHARE",
        type=_flag(share),
        help="KvmExportersDown fires if at least this share of a job cannot be scraped (default: %(default)s)",
    )
    limits.add_argument(
        "--down-fewest",
        metavar="NUMBER",
        type=_flag(whole),
        help="and at least this number of exporters (default: %(default)s)",
    )
    limits.add_argument(
        "--rare-share",
        metavar="SHARE",
        type=_flag(share),
        help="a feature set is rare if a smaller share of the cohort has it (default: %(default)s)",
    )
    limits.add_argument(
        "--stale-ages",
        metavar="NUMBER",
        type=_flag(whole),
        help="a sample is stale if it is older than this number of times its maximum age (default: %(default)s)",
    )
    limits.add_argument(
        "--stale-seconds",
        metavar="SECONDS",
        type=_flag(whole),
        help="plus this, for inexact clocks (default: %(default)s)",
    )
    limits.add_argument(
        "--drift-kept",
        metavar="DURATION",
        type=_flag(duration),
        help="how long an alert on drift outlasts a machine that cannot be scraped or sampled (default: %(default)s)",
    )
    limits.add_argument(
        "--certificate-days",
        metavar="DAYS",
        type=_flag(whole),
        help="KvmExporterCertificateExpiring fires this long before the certificate ends (default: %(default)s)",
    )
    return parser


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Return the settings on a command line."""
    return Settings(**{field.name: getattr(arguments, field.name) for field in fields(Settings)})


def matchers(text: str) -> str:
    """Return label matchers. Raises ValueError if the text is something else."""
    if not re.fullmatch(rf"{_MATCHER}(?:, ?{_MATCHER})*", text):
        raise ValueError(f"{text!r} does not select series; use label matchers, quoted for the shell: 'job=\"kvm\"'")
    return text


def cohort(text: str) -> tuple[str, ...]:
    """Return the labels of a cohort. Raises ValueError if one cannot be a label of targets, or ``job`` is missing."""
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if not re.fullmatch(_LABEL, name):
            raise ValueError(f"{name!r} is not a label; separate labels by commas, as in job,cluster")
        if name in OF_SERIES:
            raise ValueError(f"{name!r} cannot define a cohort; use labels that the targets of whole groups share")
    if "job" not in names:
        raise ValueError(f"{text!r} lacks the label job; use job,{text}")
    return names


def url(text: str) -> str:
    """Return the URL of a page, or an empty text. Raises ValueError for others, and if there is a fragment."""
    if text and not re.fullmatch(r"https?://[^\s#$\"{}]+", text):
        raise ValueError(f"{text!r} is not the URL of a page; use one such as https://wiki.example.org/runbooks")
    return text


def prefix(text: str) -> str:
    """Return the beginning of a name that a URL can contain. Raises ValueError for others."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]*", text):
        raise ValueError(f"{text!r} cannot be in a link; use letters, digits, '_', '.' and '-'")
    return text


def share(text: str) -> float:
    """Return a share above 0, and at most 1. Raises ValueError for others."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number <= 1:
        raise ValueError(f"{text!r} is not a share; use a number above 0 and up to 1, such as 0.05")
    return number


def whole(text: str) -> int:
    """Return a whole number from 1. Raises ValueError for others."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise ValueError(f"{text!r} is not a number that fits; use a whole number from 1")
    return int(text)


def duration(text: str) -> str:
    """Return a duration of Prometheus above 0. Raises ValueError for others.

    Source: ParseDuration in model/time.go of prometheus/common.
    """
    units = "".join(rf"(?:\d+{unit})?" for unit in ("y", "w", "d", "h", "m", "s", "ms"))
    if not re.fullmatch(f"(?=.*[1-9]){units}", text, re.ASCII):
        raise ValueError(f"{text!r} is not a duration above 0 for Prometheus; use one such as 15m or 1h30m")
    return text


def _flag(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return the parser of a value for argparse, which shows the message of no other error."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed
