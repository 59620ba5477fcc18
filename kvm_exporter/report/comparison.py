"""The answer of ``compare``: as text for people, as JSON for their scripts."""

import json

from kvm_exporter.kvm.migration import SCOPE, Comparison, Reason, Weight
from kvm_exporter.kvm.words import summary


def comparison_text(comparison: Comparison) -> str:
    """Both machines, each difference with its reason, and the verdict."""
    lines = [f"from: {summary(comparison.source.sample.common)}", f"to:   {summary(comparison.target.sample.common)}"]
    for reason in comparison.reasons:
        lines += [reason.what, f"  {_heading(reason)}: {reason.why}"]
    return "\n".join([*lines, comparison.verdict, ""])


def comparison_json(comparison: Comparison) -> str:
    """One JSON object; ``not_compared`` lists what a dump lacks."""
    value = {
        "compatible": comparison.compatible,
        "warnings": sum(reason.weight is Weight.WARNING for reason in comparison.reasons),
        "verdict": comparison.verdict,
        "scope": SCOPE,
        "from": summary(comparison.source.sample.common),
        "to": summary(comparison.target.sample.common),
        "reasons": [
            {
                "weight": reason.weight.name.lower(),
                "what": reason.what,
                "why": reason.why,
                "feature": reason.feature.name if reason.feature is not None else None,
            }
            for reason in comparison.reasons
        ],
        "not_compared": list(comparison.unknown),
    }
    return json.dumps(value, indent=2) + "\n"


def _heading(reason: Reason) -> str:
    return "incompatible" if reason.weight is Weight.INCOMPATIBLE else "warning"
