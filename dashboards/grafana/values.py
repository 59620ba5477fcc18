"""Words and colours for values, the same on every panel: what is good is quiet, what is unknown is grey."""

from grafana_foundation_sdk.models.dashboard import DashboardRegexMapOptions as RegexOptions
from grafana_foundation_sdk.models.dashboard import DashboardSpecialValueMapOptions as SpecialOptions
from grafana_foundation_sdk.models.dashboard import (
    RegexMap,
    SpecialValueMap,
    SpecialValueMatch,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)

Words = dict[str, tuple[str, str]]
"""A word and its colour for each value."""

BAD, ODD, NEWS, UNKNOWN = "red", "orange", "blue", "#8e8e8e"

PLAIN = "text"
"""The colour of text in tables."""

CALM, FAINT = "#4f6f66", "#6e7177"
"""Fillings of timelines, for what is as it should be and for what is not there."""


def words(of: Words, *, absent: str = "?") -> list[ValueMapping]:
    """Return value mappings; a missing value becomes ``absent``, never "no"."""
    results = {
        value: ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(of.items())
    }
    return [ValueMap(results), *unknown(absent, len(of))]


def unknown(absent: str = "?", index: int = 0) -> list[ValueMapping]:
    """Return the mapping of a missing value: grey."""
    nothing = ValueMappingResult(text=absent, color=UNKNOWN, index=index)
    return [SpecialValueMap(SpecialOptions(match=SpecialValueMatch.NULL_AND_NAN, result=nothing))]


def texts(of: dict[str, str], *, otherwise: tuple[str, str] | None = None) -> list[ValueMapping]:
    """Return mappings from one text to another; ``otherwise`` is a pattern, and the text for all values that match."""
    results = {name: ValueMappingResult(text=meaning, index=index) for index, (name, meaning) in enumerate(of.items())}
    if otherwise is None:
        return [ValueMap(results)]
    pattern, text = otherwise
    return [
        ValueMap(results),
        RegexMap(RegexOptions(pattern=pattern, result=ValueMappingResult(text=text, index=len(of)))),
    ]


def filled(of: Words) -> Words:
    """Return the words with the colours that a timeline fills a state with, in place of those of text."""
    return {value: (text, CALM if color == PLAIN else color) for value, (text, color) in of.items()}


OFFERED: Words = {"-1": ("lost", BAD), "0": ("no", FAINT), "1": ("yes", PLAIN), "2": ("gained", NEWS)}
ANSWERS: Words = {"0": ("down", BAD), "1": ("up", PLAIN)}
SUCCEEDS: Words = {"0": ("failing", BAD), "1": ("good", PLAIN)}
PRESENT: Words = {"0": ("no KVM", ODD), "1": ("KVM", PLAIN)}
CHANGED: Words = {"-1": ("lost", BAD), "0": ("unchanged", PLAIN), "1": ("gained", NEWS)}
OFFERED_NOW: Words = {**OFFERED, "3": ("some", BAD)}
SIGNATURE: Words = {"0": ("unchanged", PLAIN), "1": ("changed", BAD)}
USED: Words = {"0": ("not used", FAINT), "1": ("enabled", PLAIN), "2": ("used, not offered", BAD)}
EXPECTED_NOW: Words = {
    "-1": ("missing", ODD),
    "0": ("forbidden", PLAIN),
    "1": ("required", PLAIN),
    "2": ("unwanted", ODD),
}
EXPECTED_OVER_TIME: Words = {"0": ("forbidden", FAINT), "1": ("required", CALM)}
SUPPORTED: Words = {"0": ("no", FAINT), "1": ("yes", PLAIN)}
KEPT: Words = {"0": ("in memory only", ODD), "1": ("in a file", PLAIN)}
KVM_CLOCK: Words = {"0": ("other", PLAIN), "1": ("kvm-clock", PLAIN)}
STABLE: Words = {"0": ("not stable", ODD), "1": ("stable", PLAIN)}
ON_TSC: Words = {"0": ("not on the TSC", ODD), "1": ("on the TSC", PLAIN)}
SPREAD: Words = {"0": ("none", FAINT), "1": ("up to half", ODD), "2": ("over half", ODD), "3": ("all", CALM)}
SEVERITY: Words = {"0": ("info", NEWS), "1": ("warning", ODD), "2": ("critical", BAD)}
