"""Expressions for the features that running machines lost or gained, by level, from the exporter's table of outcomes.

A lost bit is critical, a warning or harmless; what the kernel is known not to use is harmless. Conditions of the table,
such as steal_time lost where pv_tlb_flush was offered at boot, are joins on the machine. They read a bit of every
machine, so the level of each lost bit is recorded once, for all alerts on lost features.
"""

from collections.abc import Iterable, Iterator, Mapping
from textwrap import indent

from labels import OF_BIT, OF_MACHINE

from kvm_exporter.kvm.effects import Level, level
from kvm_exporter.kvm.features import Feature, feature_named
from kvm_exporter.kvm.outcomes import GAINED, LOST, Circumstance, Outcome, Severity

CHANGED = "kvm_boot_feature_changed"
UNUSED = "kvm_unoffered_feature_in_use == 0"
LOSSES = "instance:kvm_boot_feature_changed:lost"
"""The recorded series: the level of each feature that a machine lost: 4 is critical, 3 a warning, 2 harmless."""

COUNTED = "cohort:kvm_boot_feature_changed:gained"
STAKES: Mapping[Severity, str] = {Severity.TIME_DRIFTS: "time", Severity.CORRUPTS: "memory"}


def losses() -> str:
    """The expression of LOSSES; the first level that has a bit counts."""
    levels = ((_critical(), Level.CRITICAL), (_harmless(), Level.NOTE), (_lost(), Level.WARNING))
    return "\nor\n".join(f"clamp(\n{indent(chosen, '  ')},\n  {found:d}, {found:d}\n)" for chosen, found in levels)


def lost(found: Level) -> str:
    """The features that were lost and are of a level, one series for each machine and feature."""
    return f"{LOSSES} == {found:d}"


def gained(found: Level, of_feature: str) -> str:
    """The number of machines that gained a feature of a level, by the labels of a cohort's feature, from sums."""
    risky = [name for name, outcomes in GAINED.items() if max(map(level, outcomes)) is Level.WARNING]
    chosen = selector(map(feature_named, risky))
    counted = f"{COUNTED}{chosen}"
    if found is Level.NOTE:
        counted = f"{COUNTED}\nunless\n{COUNTED}{chosen}"
    return f"sum by ({of_feature}) {_block(counted)}"


def at_stake() -> str:
    """What a critical loss puts at stake, with the features: ``memory (steal_time)``."""
    names: dict[str, list[str]] = {}
    for feature, outcome in _outcomes(Level.CRITICAL):
        stake = names.setdefault(STAKES[outcome.severity], [])
        if feature.name not in stake:
            stake.append(feature.name)
    return ", ".join(f"{stake} ({', '.join(features)})" for stake, features in names.items())


def selector(features: Iterable[Feature]) -> str:
    """The matchers of bits of one register."""
    chosen = list(features)
    [register] = {feature.register for feature in chosen}
    bits = "|".join(str(feature.bit) for feature in chosen)
    return f'{{register="{register}", bit{"=~" if len(chosen) > 1 else "="}"{bits}"}}'


def _critical() -> str:
    chosen = "\nor\n".join(_with_condition(feature, outcome) for feature, outcome in _outcomes(Level.CRITICAL))
    return f"{_block(chosen)}\nunless on ({OF_BIT}) {UNUSED}"


def _harmless() -> str:
    """Bits of which every outcome is harmless, others under a condition, and what the kernel does not use."""
    always = [
        feature_named(name) for name, outcomes in LOST.items() if {level(one) for one in outcomes} == {Level.NOTE}
    ]
    sometimes = [
        _with_condition(feature, outcome)
        for feature, outcome in _outcomes(Level.NOTE)
        if feature not in always and outcome.circumstance is not Circumstance.UNUSUAL
    ]
    unused = f"{_lost()}\nand on ({OF_BIT}) {UNUSED}"
    return "\nor\n".join([_lost(selector(always)), *sometimes, unused])


def _outcomes(found: Level) -> Iterator[tuple[Feature, Outcome]]:
    for name, outcomes in LOST.items():
        yield from ((feature_named(name), outcome) for outcome in outcomes if level(outcome) is found)


def _with_condition(feature: Feature, outcome: Outcome) -> str:
    changed = _lost(selector([feature]))
    if outcome.offered:
        return f"{changed}\nand on ({OF_MACHINE}) {_block(_usable_at_boot(feature_named(outcome.offered)))}"
    if outcome.absent:
        return f"{changed}\nunless on ({OF_MACHINE}) {_block(_usable_at_boot(feature_named(outcome.absent)))}"
    return changed


def _lost(chosen: str = "") -> str:
    return f"max without (signature) ({CHANGED}{chosen} == -1)"


def _usable_at_boot(feature: Feature) -> str:
    """Offered now and not gained since boot, or lost since; and not known to be unused, which no hint is."""
    bit = selector([feature])
    offered = f"kvm_feature_offered{bit} == 1\nunless on ({OF_MACHINE}) {CHANGED}{bit} == 1\nor {CHANGED}{bit} == -1"
    if feature.register == "edx":
        return offered
    return f"{_block(offered)}\nunless on ({OF_MACHINE}) kvm_feature_in_use{bit} == 0"


def _block(expression: str) -> str:
    return f"(\n{indent(expression, '  ')}\n)"
