"""The answer of ``check``: violations of the baseline, each with the setting that ends it, and other findings."""

from collections.abc import Iterator

from kvm_exporter.kvm.baseline import Violation
from kvm_exporter.kvm.effects import Level
from kvm_exporter.kvm.host_settings import HIDDEN
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import unread
from kvm_exporter.report.findings import Finding


def check_text(sample: Sample, broken: tuple[Violation, ...] | None, found: tuple[Finding, ...]) -> str:
    """Return each violation and each finding with what to do, CPUs that were not read, and a verdict if all is well.

    ``broken`` is None without a baseline.
    """
    lines = [*_violated(sample, broken or ()), *_found(found)]
    if sample.failed:
        lines.append(f"not checked: {unread(sample)}; run this where all CPUs may be used, or check a dump with --dump")
    scope = " on the CPUs that were read" if sample.failed else ""
    if broken == ():
        lines.append(f"matches the baseline{scope}")
    elif broken is None and all(finding.level < Level.WARNING for finding in found):
        lines.append(f"no contradictions{scope}")
    return "".join(f"{line}\n" for line in lines)


def _violated(sample: Sample, broken: tuple[Violation, ...]) -> Iterator[str]:
    hidden = sample.common.kvm is None
    for violation in broken:
        yield violation.words
        if violation.setting is not None and not hidden:
            yield from (f"  {line}" for line in violation.setting.lines())
    if broken and hidden:
        yield HIDDEN


def _found(found: tuple[Finding, ...]) -> Iterator[str]:
    for finding in found:
        yield finding.clause
        yield from (f"  {line}" for line in (*finding.details, finding.kind.action))
