"""Renders the landing page: status, hypervisor and features of this machine as one HTML page without scripts."""

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from html import escape
from pathlib import Path
from types import MappingProxyType

from kvm_exporter import __version__
from kvm_exporter.collector.observer import Observation, shown_features
from kvm_exporter.kvm.effects import Level
from kvm_exporter.kvm.features import Feature
from kvm_exporter.kvm.leaves import fingerprint, printable
from kvm_exporter.kvm.words import clock_words, cpu_counts, duration_words, mhz, moment
from kvm_exporter.report.columns import ObservedColumn, observed_columns, yes_no
from kvm_exporter.report.findings import FEW, Finding, headline

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")

STYLE_HASH = f"sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}"

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
"""The HTTP headers of the page. They allow its own style, and no script or other resource."""


def landing_page(
    observation: Observation | None,
    found: tuple[Finding, ...],
    links: Mapping[str, str],
    *,
    documentation: Mapping[str, str] = MappingProxyType({}),
    host: str = "",
    age: float = 0.0,
) -> str:
    """Return the HTML page. All values from the machine and from the arguments are escaped.

    ``found`` are the findings of the observation, ``links`` paths and ``documentation`` URLs by their titles. ``host``
    is the machine's name, and ``age`` the age of the sample in seconds.
    """
    title = ": ".join(filter(None, (host, headline(found))))
    return "\n".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)} - kvm-exporter</title>\n<style>{STYLE}</style>\n</head>",
            '<body>\n<header>\n<p>kvm-exporter</p>\n<nav aria-label="Endpoints"><ul>',
            *(f"<li>{_link(*link)}</li>" for link in links.items()),
            "</ul></nav>\n</header>\n<main>",
            *_status(found, observation, host, age),
            *(_content(observation) if observation is not None else ()),
            f"</main>\n<footer><p>kvm-exporter {escape(__version__)}. {_help(documentation)}</p></footer>",
            "</body>\n</html>\n",
        )
    )


def _link(title: str, url: str) -> str:
    return f'<a href="{escape(url)}">{escape(title)}</a>'


def _help(documentation: Mapping[str, str]) -> str:
    """Return links to the documentation or, without any, the command that describes all others."""
    return ", ".join(_link(*link) for link in documentation.items()) or "Help: <code>kvm-exporter --help</code>"


def _status(found: tuple[Finding, ...], observation: Observation | None, host: str, age: float) -> Iterator[str]:
    level = found[0].level.name
    where = f" on {escape(host)}" if host else ""
    yield f'<section class="status {level.lower()}" aria-labelledby="status">'
    clauses = escape(headline(found)).replace("; ", ";</span> <span>")
    yield f'<h1 id="status"><span class="level">{level}{where}</span> <span>{clauses}</span></h1>'
    if lines := [line for finding in found for line in _lines(finding)]:
        yield from ("<ul>", *(f"<li>{line}</li>" for line in lines), "</ul>")
    if observation is not None:
        moment = _time(observation.sample.timestamp)
        yield f'<p class="when">Sampled {moment}, {duration_words(age)} before this page was loaded.</p>'
    yield "</section>"


def _lines(finding: Finding) -> Iterator[str]:
    """The details of a finding, since when it is so, what follows and what to do, as HTML."""
    yield from map(escape, finding.details)
    kind = finding.kind
    since = f"Since {_time(finding.since)}. " if finding.since is not None else ""
    said = kind.level is Level.OK or finding.effects or kind.follows in finding.details
    follows = "" if said else f"{escape(kind.follows)} "
    do = f"<strong>Do:</strong> {escape(kind.action)}" if kind.action else ""
    if words := f"{since}{follows}{do}".rstrip():
        yield words


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
    """Yield terms and their values, as HTML."""
    sample, kvm = observation.sample, observation.sample.common.kvm
    for found in sample.common.hypervisors:
        name, highest = escape(printable(found.signature)), f"highest leaf <code>{found.max_leaf:#010x}</code>"
        yield "Signature", f"<code>{name}</code> at <code>{found.base:#010x}</code></dd><dd>{highest}"
    if kvm is not None:
        yield "Fingerprint", f"<code>{fingerprint(kvm)}</code>"
        words = f"EAX <code>{kvm.eax:#010x}</code>, EDX <code>{kvm.edx:#010x}</code>"
        yield "Feature leaf", words if kvm.has_leaf else "absent: the highest leaf is below it"
    yield "CPUs", cpu_counts(sample)
    if kvm is not None and kvm.timing is not None:
        yield "Frequencies", f"TSC {mhz(kvm.timing.tsc_khz)}, APIC bus {mhz(kvm.timing.bus_khz)}"
    if sample.clock is not None:
        yield "KVM's clock", clock_words(sample.clock)
    if observation.clocksource is not None:
        yield "Current clocksource", escape(observation.clocksource)
    if observation.reference is not None:
        reference = observation.reference
        late = f"</dd><dd>{duration_words(reference.uptime)} after boot" if reference.uptime is not None else ""
        kept = "" if observation.persistent else "</dd><dd>in memory only"
        yield "Boot reference", f"first sample of this boot, {_time(reference.timestamp)}{late}{kept}"


def _time(timestamp: float) -> str:
    text = moment(timestamp)
    if not text.endswith("Z"):
        return f"at {text}"
    return f'<time datetime="{text}">{text.replace("T", " ").removesuffix("Z")} UTC</time>'


_UNKNOWN = " <strong>?</strong>: unknown, which does not mean no."


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the table: its text, its CSS class, and what explains the text."""

    text: str
    state: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: its title, its CSS class, the cell of a feature, and the explanation in the caption."""

    title: str
    name: str
    cell: Callable[[Feature], Cell]
    meaning: str = ""


def feature_table(observation: Observation) -> Iterator[str]:
    """Yield the HTML table of all features that have metrics; nothing without such features."""
    sample = observation.sample
    features = shown_features(sample, observation.boot)
    if not features:
        return
    columns = tuple(_columns(observation))
    yield '<h2 id="features">Features</h2>\n<div class="sheet">\n<table>'
    meanings = " ".join(column.meaning for column in columns if column.meaning)
    yield f"<caption>{meanings}{_UNKNOWN if observation.collectors else ''}</caption>"
    titles = "".join(f'<th scope="col">{column.title}</th>' for column in columns)
    yield f'<thead><tr><th scope="col">Feature</th>{titles}</tr></thead>\n<tbody>'
    for feature in features:
        yield _row(feature, columns)
    yield "</tbody>\n</table>\n</div>"


def _row(feature: Feature, columns: tuple[Column, ...]) -> str:
    cells = [(column, column.cell(feature)) for column in columns]
    state = next((f' class="{cell.state}"' for _, cell in cells if cell.state in {"warning", "note"}), "")
    data = "".join(_data(column, cell) for column, cell in cells)
    return f'<tr{state}><th scope="row"><code>{escape(feature.name)}</code></th>{data}</tr>'


def _data(column: Column, cell: Cell) -> str:
    style = f"{column.name} {cell.state}".rstrip()
    reason = f" <small>{escape(cell.reason)}</small>" if cell.reason else ""
    return f'<td class="{style}" data-title="{column.title}">{escape(cell.text)}{reason}</td>'


def _columns(observation: Observation) -> Iterator[Column]:
    sample = observation.sample
    base = sample.common.kvm.base if sample.common.kvm is not None else 0x4000_0000
    known = len(sample.known)

    def cpus(feature: Feature) -> Cell:
        offering = sample.offering(feature)
        return Cell(f"{offering} of {known}", "no" if not offering else "warning" if offering < known else "")

    def offered(feature: Feature) -> str:
        return yes_no(sample.common.offers(feature))

    yield Column("Bit", "bit", lambda feature: Cell(f"{feature.register} {feature.bit}"))
    leaf = f"<strong>Offered</strong>: the bit is set in leaf <code>{base + 1:#010x}</code> on most CPUs."
    yield Column("Offered", "offered", partial(_cell_of, offered), leaf)
    yield Column("CPUs", "cpus", cpus)
    levels = {effect.feature: effect.level for effect in observation.effects}
    for column in observed_columns(observation):
        meaning = f"<strong>{column.title}</strong>: {escape(column.meaning)}"
        yield Column(column.title, column.name, partial(_observed_cell, column, levels), meaning)
    yield Column("Meaning", "meaning", lambda feature: Cell(feature.meaning))


_STATES = {"yes": "yes", "no": "no", "-": "no", "?": "unknown", "same": "same"}


def _cell_of(text: Callable[[Feature], str], feature: Feature) -> Cell:
    return Cell(text(feature), _STATES[text(feature)])


def _observed_cell(column: ObservedColumn, levels: Mapping[Feature, Level], feature: Feature) -> Cell:
    """Return a cell; ``levels`` has those of the features that are ``lost`` or ``gained``."""
    word = column.cell(feature)
    state = _STATES.get(word) or ("note" if levels.get(feature) is Level.NOTE else "warning")
    return Cell(word, state, column.reason(feature))
