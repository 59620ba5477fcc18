"""The landing page: what this machine's hypervisor offers, for a person with a browser at three in the morning."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import escape

from kvm_exporter import __version__
from kvm_exporter.collector.observer import Observation
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.drift import fingerprint
from kvm_exporter.kvm.leaves import printable
from kvm_exporter.page_style import STYLE, STYLE_HASH
from kvm_exporter.page_table import feature_table
from kvm_exporter.report.findings import FEW, Finding, findings, headline
from kvm_exporter.report.table import cpu_counts

HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src '{STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
"""What is sent with the page: it may use its own style, and nothing else."""

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def landing_page(
    observation: Observation | None,
    links: Mapping[str, str],
    baseline: Baseline | None = None,
    *,
    success: bool = True,
    age: float = 0.0,
) -> str:
    """One HTML page without scripts; everything that came from elsewhere is escaped.

    ``links`` are paths by what they are called, ``success`` is that of the last attempt to sample, and ``age`` the
    sample's in seconds.
    """
    found = findings(observation, baseline, success=success)
    return "\n".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(headline(found))} - kvm-exporter</title>\n<style>{STYLE}</style>\n</head>",
            '<body>\n<header>\n<p>kvm-exporter</p>\n<nav aria-label="Endpoints"><ul>',
            *(f'<li><a href="{escape(path)}">{escape(name)}</a></li>' for name, path in links.items()),
            "</ul></nav>\n</header>\n<main>",
            *_status(found, observation, age),
            *(_content(observation) if observation is not None else ()),
            f"</main>\n<footer><p>kvm-exporter {escape(__version__)}</p></footer>\n</body>\n</html>\n",
        )
    )


def _status(found: tuple[Finding, ...], observation: Observation | None, age: float) -> Iterator[str]:
    level = found[0].level.name
    yield f'<section class="status {level.lower()}" aria-labelledby="status">'
    clauses = escape(headline(found)).replace("; ", ";</span> <span>")
    yield f'<h1 id="status"><span class="level">{level}</span> <span>{clauses}</span></h1>'
    if details := [line for finding in found for line in finding.details]:
        yield from ("<ul>", *(f"<li>{escape(line)}</li>" for line in details), "</ul>")
    if observation is not None:
        moment = _time(observation.sample.timestamp)
        yield f'<p class="when">Sampled {moment}, {_words(age)} before this page was loaded.</p>'
    yield "</section>"


def _content(observation: Observation) -> Iterator[str]:
    yield "<h2>Hypervisor</h2>\n<dl>"
    for term, value in _facts(observation):
        yield f"<div><dt>{term}</dt><dd>{value}</dd></div>"
    yield "</dl>"
    yield from feature_table(observation)
    if len(failed := observation.sample.failed) > FEW:
        yield '<h2>CPUs that could not be read</h2>\n<ul class="failed">'
        yield from (f"<li>CPU {cpu} failed: {escape(why)}</li>" for cpu, why in sorted(failed.items()))
        yield "</ul>"


def _facts(observation: Observation) -> Iterator[tuple[str, str]]:
    """Terms and what they are here, as HTML."""
    sample, kvm = observation.sample, observation.sample.common.kvm
    for found in sample.common.hypervisors:
        name, highest = escape(printable(found.signature)), f"highest leaf <code>{found.max_leaf:#010x}</code>"
        yield "Signature", f"<code>{name}</code> at <code>{found.base:#010x}</code></dd><dd>{highest}"
    if kvm is not None:
        yield "Fingerprint", f"<code>{fingerprint(kvm)}</code>"
        words = f"EAX <code>{kvm.eax:#010x}</code>, EDX <code>{kvm.edx:#010x}</code>"
        yield "Feature leaf", words if kvm.has_leaf else "none: the highest leaf is below it"
    yield "CPUs", cpu_counts(sample)
    if kvm is not None and kvm.timing is not None:
        yield "Frequencies", f"TSC {kvm.timing.tsc_khz / 1000:g} MHz, APIC bus {kvm.timing.bus_khz / 1000:g} MHz"
    if observation.kvmclock_is_current is not None:
        yield "Current clocksource", "kvm-clock" if observation.kvmclock_is_current else "not kvm-clock"
    if observation.reference is not None:
        yield "First sampled in this boot", _time(observation.reference.timestamp)


def _time(timestamp: float) -> str:
    try:
        moment = datetime.fromtimestamp(int(timestamp), UTC).isoformat().removesuffix("+00:00")
    except (OverflowError, ValueError, OSError):  # a clock that was never set, or a file that somebody edited
        return f"at {timestamp:g} seconds of the epoch"
    return f'<time datetime="{moment}Z">{moment.replace("T", " ")} UTC</time>'


def _words(seconds: float) -> str:
    for unit, length in _UNITS:
        if (count := int(seconds // length)) > 0:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "less than a second"
