"""Words and colours for values, the same on every panel."""

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

GOOD, BAD, ODD, NEWS, QUIET = "green", "red", "orange", "blue", "#8e8e8e"


def words(of: Words, *, absent: str = "?") -> list[ValueMapping]:
    """Return value mappings; a missing value becomes ``absent``, never "no"."""
    results = {
        value: ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(of.items())
    }
    nothing = ValueMappingResult(text=absent, color=QUIET, index=len(of))
    return [ValueMap(results), SpecialValueMap(SpecialOptions(match=SpecialValueMatch.NULL_AND_NAN, result=nothing))]


def texts(of: dict[str, str], *, otherwise: tuple[str, str]) -> list[ValueMapping]:
    """Return mappings from one text to another; ``otherwise`` is a pattern, and the text for all values that match."""
    pattern, text = otherwise
    results = {name: ValueMappingResult(text=meaning, index=index) for index, (name, meaning) in enumerate(of.items())}
    return [
        ValueMap(results),
        RegexMap(RegexOptions(pattern=pattern, result=ValueMappingResult(text=text, index=len(of)))),
    ]


OFFERED: Words = {"0": ("no", QUIET), "1": ("yes", GOOD)}
ANSWERS: Words = {"0": ("down", BAD), "1": ("up", GOOD)}
SUCCEEDS: Words = {"0": ("failing", BAD), "1": ("good", GOOD)}
PRESENT: Words = {"0": ("no KVM", ODD), "1": ("KVM", GOOD)}
CHANGED: Words = {"-1": ("lost", BAD), "0": ("unchanged", GOOD), "1": ("gained", NEWS)}
SIGNATURE: Words = {"0": ("unchanged", GOOD), "1": ("changed", BAD)}
USED: Words = {"0": ("not used", QUIET), "1": ("enabled", GOOD)}
EXPECTED: Words = {"0": ("forbidden", ODD), "1": ("required", NEWS)}
SUPPORTED: Words = {"0": ("no", QUIET), "1": ("yes", GOOD)}
KEPT: Words = {"0": ("in memory only", ODD), "1": ("on disk", GOOD)}
KVM_CLOCK: Words = {"0": ("other", QUIET), "1": ("kvm-clock", GOOD)}
SPREAD: Words = {"0": ("none", QUIET), "1": ("up to half", ODD), "2": ("over half", ODD), "3": ("all", GOOD)}
ODDITY: Words = {"0": ("no", QUIET), "1": ("yes", GOOD), "2": ("no, unlike most", BAD), "3": ("yes, unlike most", ODD)}
