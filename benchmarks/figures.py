"""Figures: what was measured often, as a median with its quartiles, and whether that is what was aimed at. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True)
class Figure:
    """One quantity, measured some times."""

    name: str
    values: Sequence[float]
    #: ``x`` for ratios.
    unit: str = "x"
    #: At most this much is wanted; None: it is there to be known.
    target: float | None = None

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """The first, the median, the third; of a single value three times that one."""
        if len(self.values) == 1:
            return self.values[0], self.values[0], self.values[0]
        first, median, third = quantiles(self.values, n=4, method="inclusive")
        return first, median, third

    @property
    def verdict(self) -> str:
        """Whether the median is within the target."""
        if self.target is None:
            return ""
        return "met" if self.quartiles[1] <= self.target else "missed"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Pair by pair: what is measured at the same time is disturbed by the same things."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def table(figures: Iterable[Figure]) -> str:
    """A table in Markdown, ratios first."""
    rows = ["| figure | median | quartiles | values | target | |", "|---|---:|---:|---:|---:|---|"]
    for figure in sorted(figures, key=lambda figure: figure.unit != "x"):
        first, median, third = (_number(value) for value in figure.quartiles)
        unit = f" {figure.unit}" if figure.unit not in {"", "x"} else ""
        target = f"≤ {figure.target:g}" if figure.target is not None else ""
        spread = f"{first} to {third} | {len(figure.values)}"
        rows.append(f"| `{figure.name}` | {median}{unit} | {spread} | {target} | {figure.verdict} |")
    return "\n".join(rows)


def as_json(about: Mapping[str, str], figures: Iterable[Figure]) -> str:
    """All of it for programs: every value, too."""
    found = [
        {
            "name": figure.name,
            "unit": figure.unit,
            "median": figure.quartiles[1],
            "quartiles": figure.quartiles[::2],
            "target": figure.target,
            "verdict": figure.verdict,
            "values": list(figure.values),
        }
        for figure in figures
    ]
    return json.dumps({"about": dict(about), "figures": found}, indent=1) + "\n"


def _number(value: float) -> str:
    """Three digits that count, and no exponent."""
    digits = next((digits for digits, least in ((0, 100), (1, 10), (2, 1)) if abs(value) >= least), 3)
    return f"{value:,.{digits}f}" if value else "0"
