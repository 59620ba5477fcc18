"""An effect as a line of text and as JSON, for the table, the page and ``compare``."""

from collections.abc import Iterable

from kvm_exporter.kvm.effects import Effect
from kvm_exporter.kvm.outcomes import Severity


def severity_words(severity: Severity) -> str:
    """A severity in words, such as ``time drifts``."""
    return severity.name.lower().replace("_", " ")


def effect_lines(effects: Iterable[Effect]) -> tuple[str, ...]:
    """The features with the worst that is to be expected and what the guest does: a line for each such text."""
    names: dict[tuple[str, str], list[str]] = {}
    for effect in sorted(effects, key=lambda effect: -effect.level):
        names.setdefault((severity_words(effect.severity), effect.text), []).append(effect.feature.name)
    return tuple(f"{', '.join(features)} ({severity}): {text}" for (severity, text), features in names.items())


def effect_json(effect: Effect) -> dict[str, object]:
    """The effect's values; ``outcomes`` has what can follow, each with its circumstance and its source."""
    return {
        "feature": effect.feature.name,
        "change": effect.change,
        "severity": severity_words(effect.severity),
        "worst": severity_words(effect.worst),
        "action": effect.action,
        "outcomes": [
            {
                "severity": severity_words(outcome.severity),
                "circumstance": outcome.circumstance.name.lower(),
                "text": outcome.text,
                "source": outcome.source,
            }
            for outcome in effect.outcomes
        ],
    }
