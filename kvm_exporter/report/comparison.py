"""The answer of ``compare``: as text for people, as JSON for their scripts."""

import json
from dataclasses import asdict

from kvm_exporter.kvm.effects import NOTHING, Weight
from kvm_exporter.kvm.host_settings import HIDDEN, HostSetting, host_setting
from kvm_exporter.kvm.migration import Comparison, Reason, Side
from kvm_exporter.kvm.outcomes import Severity
from kvm_exporter.kvm.words import host_summary, summary
from kvm_exporter.report.effects import effect_json, severity_words


def comparison_text(comparison: Comparison) -> str:
    """Both machines, each difference with its reason, what could not be compared, and the verdict."""
    lines = [f"from: {_summary(comparison.source)}", f"to:   {_summary(comparison.target)}"]
    for reason in comparison.reasons:
        lines += [reason.what, f"  {_heading(reason)}: {reason.why}"]
        if (action := _after_the_move(reason)) != NOTHING:
            lines.append(f"  after the move: {action}")
        if (setting := _setting(comparison, reason)) is not None:
            lines += (f"  {line}" for line in setting.lines())
    if comparison.source.sample.common.kvm is not None and comparison.target.sample.common.kvm is None:
        lines.append(HIDDEN)
    if comparison.unknown:
        lines.append(f"not compared: {', '.join(comparison.unknown)}")
    return "\n".join([*lines, comparison.verdict, ""])


def comparison_json(comparison: Comparison) -> str:
    """One JSON object; ``not_compared`` lists what a dump lacks, ``host_dumps`` which sides are a host's dump."""
    value = {
        "compatible": comparison.compatible,
        "warnings": comparison.warnings,
        "verdict": comparison.verdict,
        "scope": comparison.scope,
        "from": _summary(comparison.source),
        "to": _summary(comparison.target),
        "host_dumps": [name for name, side in (("from", comparison.source), ("to", comparison.target)) if side.of_host],
        "reasons": [
            {
                "weight": reason.weight.name.lower(),
                "what": reason.what,
                "why": reason.why,
                **(effect_json(reason.effect) if reason.effect is not None else {"feature": None}),
                "host_setting": asdict(setting) if (setting := _setting(comparison, reason)) is not None else None,
            }
            for reason in comparison.reasons
        ],
        "not_compared": list(comparison.unknown),
    }
    return json.dumps(value, indent=2) + "\n"


def _summary(side: Side) -> str:
    leaves = side.sample.common
    if side.of_host and leaves.kvm is not None:
        return f"a host's dump, what its KVM can offer: {host_summary(leaves.kvm)}"
    return summary(leaves)


def _heading(reason: Reason) -> str:
    """The weight, and the severity that is to be expected, if it is not the same word."""
    heading = reason.weight.name.lower()
    severity = reason.effect.severity if reason.effect is not None else Severity.HARMLESS
    return f"{heading}, {severity_words(severity)}" if severity is not Severity.HARMLESS else heading


def _after_the_move(reason: Reason) -> str:
    """What to do once the guest has moved; NOTHING where it should not move."""
    if reason.effect is None or reason.weight is Weight.INCOMPATIBLE:
        return NOTHING
    return reason.effect.action


def _setting(comparison: Comparison, reason: Reason) -> HostSetting | None:
    """What to set on the target for a feature that none of its CPUs offers; None for other reasons.

    No setting makes a host's own KVM offer more.
    """
    side = comparison.target
    leaves = side.sample.common
    if reason.effect is None or side.of_host or leaves.kvm is None:
        return None
    feature = reason.effect.feature
    return None if leaves.offers(feature) or side.sample.offering(feature) else host_setting(feature, offered=True)
