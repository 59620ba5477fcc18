"""The answer of ``compare``: as text for people, as JSON for their scripts."""

import json

from kvm_exporter.kvm.migration import Comparison, Reason, Side, Weight
from kvm_exporter.kvm.words import host_summary, summary


def comparison_text(comparison: Comparison) -> str:
    """Both machines, each difference with its reason, what could not be compared, and the verdict."""
    lines = [f"from: {_summary(comparison.source)}", f"to:   {_summary(comparison.target)}"]
    for reason in comparison.reasons:
        lines += [reason.what, f"  {_heading(reason)}: {reason.why}"]
    if comparison.unknown:
        lines.append(f"not compared: {', '.join(comparison.unknown)}")
    return "\n".join([*lines, comparison.verdict, ""])


def comparison_json(comparison: Comparison) -> str:
    """One JSON object; ``not_compared`` lists what a dump lacks, ``host_dumps`` which sides are a host's dump."""
    value = {
        "compatible": comparison.compatible,
        "warnings": sum(reason.weight is Weight.WARNING for reason in comparison.reasons),
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
                "feature": reason.feature.name if reason.feature is not None else None,
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
    return "incompatible" if reason.weight is Weight.INCOMPATIBLE else "warning"
