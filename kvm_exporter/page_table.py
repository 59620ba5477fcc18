"""The landing page's table: a row for every feature bit, a column for everything that is known of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

from kvm_exporter.collector.observer import Observation
from kvm_exporter.kvm.drift import difference
from kvm_exporter.kvm.features import Feature
from kvm_exporter.metrics.machine import shown_features
from kvm_exporter.report.table import supported

_UNKNOWN = " <strong>?</strong>: not known, which is not a no."


@dataclass(frozen=True, slots=True)
class Cell:
    """What is written, and the style's class of it."""

    text: str
    state: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, the style's class, what it means, and what it says of a feature."""

    title: str
    name: str
    cell: Callable[[Feature], Cell]
    meaning: str = ""


def feature_table(observation: Observation) -> Iterator[str]:
    """The table of all features that have metrics; nothing where there are none."""
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
    return f'<td class="{style}" data-title="{column.title}">{escape(cell.text)}</td>'


def _columns(observation: Observation) -> Iterator[Column]:
    sample, reference = observation.sample, observation.reference
    base = sample.common.kvm.base if sample.common.kvm is not None else 0x4000_0000
    known = len(sample.known)

    def cpus(feature: Feature) -> Cell:
        offering = sample.offering(feature)
        return Cell(f"{offering} of {known}", "no" if not offering else "warning" if offering < known else "")

    yield Column("Bit", "bit", lambda feature: Cell(f"{feature.register} {feature.bit}"))
    leaf = f"<strong>Offered</strong>: the bit is set in leaf <code>{base + 1:#010x}</code> on most CPUs."
    yield Column("Offered", "offered", lambda feature: _answer(sample.common.offers(feature)), leaf)
    yield Column("CPUs", "cpus", cpus)
    if reference is not None:
        change = difference(reference.leaves, sample.common)
        became = {
            **dict.fromkeys(change.lost, Cell("lost", "warning")),
            **dict.fromkeys(change.gained, Cell("gained", "note")),
        }
        yield Column("Since boot", "boot", lambda feature: became.get(feature, Cell("same", "same")))
    if observation.collectors:
        used = "<strong>In use</strong>: the kernel shows that it has enabled it."
        yield Column("In use", "used", lambda feature: _answer(observation.in_use.get(feature)), used)
    if observation.host is not None:
        host = "<strong>Host</strong>: this machine's own KVM can offer it to guests."
        yield Column("Host", "host", lambda feature: _answer(supported(observation, feature)), host)
    yield Column("Meaning", "meaning", lambda feature: Cell(feature.meaning))


def _answer(value: bool | None) -> Cell:  # noqa: FBT001 - it is the thing that is written
    return {True: Cell("yes", "yes"), False: Cell("no", "no"), None: Cell("?", "unknown")}[value]
