"""Evaluates a Difference with the table of outcomes: what each lost or gained feature does to a running guest."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum

from kvm_exporter.kvm.drift import Difference
from kvm_exporter.kvm.features import Feature, feature_named
from kvm_exporter.kvm.leaves import Leaves
from kvm_exporter.kvm.outcomes import GAINED, LOST, UNASSIGNED, Change, Circumstance, Outcome, Severity


class Level(IntEnum):
    """How urgent something is. The alerts' severities are critical, warning and, for a note, info."""

    OK = 0
    #: Evidence is missing: neither good news nor bad.
    UNKNOWN = 1
    NOTE = 2
    WARNING = 3
    CRITICAL = 4


class Weight(IntEnum):
    """What a difference means for a guest that is to move."""

    HARMLESS = 0
    #: Only an unusual VMM or guest, or a CPU that comes online later, makes it matter.
    WARNING = 1
    #: The guest loses what it may use, and with it time, memory, devices, wake-ups or speed.
    INCOMPATIBLE = 2


_WEIGHTS = {
    Circumstance.UNUSUAL: Weight.WARNING,
    Circumstance.LATER: Weight.WARNING,
    Circumstance.UNTOLD: Weight.INCOMPATIBLE,
    Circumstance.USUAL: Weight.INCOMPATIBLE,
}

_LOST_ACTIONS = {
    Level.CRITICAL: "Take the machine out of service now. Then migrate it back, or reboot it, not by kexec.",
    Level.WARNING: "Migrate the machine back, or reboot it, not by kexec.",
}
_GAINED_ACTIONS = {
    Level.WARNING: (
        "Reboot the machine, not by kexec. Until then, add no CPU, take none offline and online, and do not suspend it."
    ),
}

NOTHING = "Nothing."


def weight(outcome: Outcome) -> Weight:
    """What an outcome means for a guest that is to move."""
    return _WEIGHTS[outcome.circumstance] if outcome.severity else Weight.HARMLESS


def level(outcome: Outcome) -> Level:
    """How urgent an outcome is once it has come about: critical where memory or time is at stake under a usual VMM."""
    if not outcome.severity or outcome.circumstance is Circumstance.UNUSUAL:
        return Level.NOTE
    at_stake = outcome.circumstance is Circumstance.USUAL and outcome.severity >= Severity.TIME_DRIFTS
    return Level.CRITICAL if at_stake else Level.WARNING


@dataclass(frozen=True, slots=True)
class Effect:
    """What one lost or gained feature does to a running guest."""

    feature: Feature
    change: Change
    #: At least one; what is to be expected first, unusual circumstances last.
    outcomes: tuple[Outcome, ...]

    @property
    def severity(self) -> Severity:
        """The worst that is to be expected: unusual circumstances aside."""
        expected = (one.severity for one in self.outcomes if one.circumstance is not Circumstance.UNUSUAL)
        return max(expected, default=Severity.HARMLESS)

    @property
    def worst(self) -> Severity:
        """The worst under any circumstances."""
        return max(one.severity for one in self.outcomes)

    @property
    def weight(self) -> Weight:
        """What it means for a guest that is to move."""
        return max(map(weight, self.outcomes))

    @property
    def level(self) -> Level:
        """How urgent it is on a guest that it has happened to: a note, a warning or critical."""
        return max(map(level, self.outcomes))

    @property
    def text(self) -> str:
        """What the guest does, in sentences."""
        return " ".join(one.text for one in self.outcomes)

    @property
    def action(self) -> str:
        """What to do on a guest that it has happened to, in sentences; NOTHING where nothing is to be done."""
        return action(self.change, self.level)


def action(change: Change, urgency: Level) -> str:
    """What to do about features that were lost or gained, by the level of the most urgent."""
    return (_LOST_ACTIONS if change == "lost" else _GAINED_ACTIONS).get(urgency, NOTHING)


def effects(change: Difference, before: Leaves, unused: Collection[Feature] = ()) -> tuple[Effect, ...]:
    """The effect of each feature that was lost, then of each that was gained, by register and bit.

    ``before`` are the leaves that the kernel booted with. ``unused`` are features that it is known not to use.
    """
    lost = (Effect(feature, "lost", tuple(_lost(feature, before, unused))) for feature in change.lost)
    gained = (Effect(feature, "gained", _gained(feature, before)) for feature in change.gained)
    return (*lost, *gained)


def advice(change: Difference, found: Collection[Effect]) -> str:
    """What to do about a whole difference, given its effects, in sentences; NOTHING where nothing is to be done."""
    worst = max(found, key=lambda effect: effect.level, default=None)
    if worst is None or worst.level < urgency(change, found):
        return action("lost", urgency(change, found))
    return worst.action


def urgency(change: Difference, found: Collection[Effect]) -> Level:
    """How urgent a whole difference is, given its effects: moved leaves and another TSC frequency are warnings."""
    least = Level.WARNING if change.identity or change.tsc_changed else Level.NOTE
    return max((least, *(effect.level for effect in found)))


_CONDITIONS = "the kernel's own conditions"
_UNUSED = Outcome(Severity.HARMLESS, Circumstance.USUAL, "The kernel does not use it.", _CONDITIONS)
_BACK = Outcome(Severity.HARMLESS, Circumstance.USUAL, "The kernel booted with it.", _CONDITIONS)


def _gained(feature: Feature, before: Leaves) -> tuple[Outcome, ...]:
    return (_BACK,) if before.offers(feature) else GAINED.get(feature.name, (UNASSIGNED["gained"],))


def _lost(feature: Feature, before: Leaves, unused: Collection[Feature]) -> Iterator[Outcome]:
    if feature in unused:
        yield _UNUSED
        return

    def usable(name: str) -> bool:
        other = feature_named(name)
        return before.offers(other) and other not in unused

    for outcome in LOST.get(feature.name, (UNASSIGNED["lost"],)):
        needed, excluded = outcome.offered, outcome.absent
        if not (needed and not usable(needed)) and not (excluded and usable(excluded)):
            yield outcome
