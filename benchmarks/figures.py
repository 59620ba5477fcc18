"""Figures: repeated measurements as a median with quartiles, compared with a target. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True)
class Figure:
    """One quantity, measured several times."""

    name: str
    values: Sequence[float]
    #: ``x`` for ratios.
    unit: str = "x"
    #: The maximum for the median; None for no target.
    target: float | None = None

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """The first quartile, the median and the third quartile; a single value is all three."""
        if len(self.values) == 1:
            return self.values[0], self.values[0], self.values[0]
        first, median, third = quantiles(self.values, n=4, method="inclusive")
        return first, median, third

    @property
    def verdict(self) -> str:
        """``met`` if the median is within the target, else ``missed``; empty without a target."""
        if self.target is None:
            return ""
        return "met" if self.quartiles[1] <= self.target else "missed"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratios pair by pair, because the values of a pair are measured under the same disturbances."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def table(figures: Iterable[Figure]) -> str:
    """Return a table in Markdown, ratios first."""
    rows = ["| figure | median | quartiles | values | target | |", "|---|---:|---:|---:|---:|---|"]
    for figure in sorted(figures, key=lambda figure: figure.unit != "x"):
        first, median, third = (_number(value) for value in figure.quartiles)
        unit = f" {figure.unit}" if figure.unit not in {"", "x"} else ""
        target = f"≤ {figure.target:g}" if figure.target is not None else ""
        spread = f"{first} to {third} | {len(figure.values)}"
        rows.append(f"| `{figure.name}` | {median}{unit} | {spread} | {target} | {figure.verdict} |")
    return "\n".join(rows)


def as_json(about: Mapping[str, str], figures: Iterable[Figure]) -> str:
    """Return the figures as JSON, with every value."""
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
    """Return the number with three significant digits and without an exponent."""
    digits = next((digits for digits, least in ((0, 100), (1, 10), (2, 1)) if abs(value) >= least), 3)
    return f"{value:,.{digits}f}" if value else "0"
