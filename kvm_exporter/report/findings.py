"""What a person has to know first: how the machine is in one line, and what is wrong in a few more. Pure.

The levels are those of the alerts in dashboards/.
"""

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from enum import IntEnum

from kvm_exporter.collector.observer import Observation
from kvm_exporter.cpuid.cpulist import format_cpu_list
from kvm_exporter.kvm.baseline import Baseline, violations
from kvm_exporter.kvm.drift import Difference, difference
from kvm_exporter.kvm.leaves import Leaves
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import describe, divergence, summary

FEW = 4
"""More CPUs that could not be read are listed at the end of the page, not at its head."""


class Level(IntEnum):
    """How urgent a finding is."""

    OK = 0
    NOTE = 1
    WARNING = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know: a clause for the headline, and sentences that explain it."""

    level: Level
    clause: str
    details: tuple[str, ...] = ()


def findings(observation: Observation | None, baseline: Baseline | None, *, success: bool) -> tuple[Finding, ...]:
    """Everything to know, the most urgent first; at least one. ``success`` is the last attempt's."""
    if observation is None:
        return (Finding(Level.CRITICAL, "no sample yet", ("Nothing could be read so far; the log says why.",)),)
    found = [*_attempt(success=success), *_machine(observation, baseline)]
    if all(finding.level is Level.NOTE for finding in found) and observation.sample.common.kvm is not None:
        found.append(Finding(Level.OK, _calm(observation, changed=bool(found))))
    return tuple(sorted(found, key=lambda finding: -finding.level))


def headline(found: Iterable[Finding]) -> str:
    """The clauses of all findings in one line."""
    return _capital("; ".join(finding.clause for finding in found))


def _attempt(*, success: bool) -> Iterator[Finding]:
    if not success:
        details = "This is the last sample that succeeded; the log says why there is no newer one."
        yield Finding(Level.WARNING, "last attempt to sample failed", (details,))


def _machine(observation: Observation, baseline: Baseline | None) -> Iterator[Finding]:
    sample = observation.sample
    boot = observation.boot or sample.common
    if sample.common.kvm is None:
        yield _no_kvm(sample.common, boot)
    yield from _since_boot(boot, sample.common)
    if baseline is not None and (lines := violations(baseline, sample)):
        clause = f"{_count(lines, 'feature')} not as the baseline declares"
        yield Finding(Level.WARNING, clause, tuple(f"Baseline: {line}" for line in lines))
    yield from _divergent(sample)
    yield from _failed(sample)


def _no_kvm(common: Leaves, boot: Leaves) -> Finding:
    details = _capital(summary(common).removeprefix("no KVM: "))
    if boot.kvm is not None:
        return Finding(Level.CRITICAL, "KVM is gone since boot", (details,))
    return Finding(
        Level.NOTE, "no KVM", (details, "That is a state, not an error: KVM's features exist under KVM only.")
    )


def _since_boot(boot: Leaves, now: Leaves) -> Iterator[Finding]:
    change = difference(boot, now)
    gone = boot.kvm is not None and now.kvm is None
    if change.identity and not gone:
        words = describe(Difference(identity=True), boot, now)
        yield Finding(Level.WARNING, "hypervisor changed since boot", (f"Since boot: {words}",))
    if change.lost:
        words = describe(Difference(lost=change.lost), boot, now, lost="Lost since boot:")
        yield Finding(Level.WARNING, f"{_count(change.lost, 'feature')} lost since boot", (words,))
    if change.gained:
        words = describe(Difference(gained=change.gained), boot, now, gained="Gained since boot:")
        yield Finding(Level.NOTE, f"{_count(change.gained, 'feature')} gained since boot", (words,))


def _divergent(sample: Sample) -> Iterator[Finding]:
    groups: dict[str, list[int]] = {}
    for cpu in sample.divergent:
        groups.setdefault(divergence(sample, cpu), []).append(cpu)
    if groups:
        number = len(sample.divergent)
        clause = f"{number} CPUs differ" if number > 1 else f"CPU {sample.divergent[0]} differs"
        details = tuple(f"CPU {format_cpu_list(cpus)}: {words}" for words, cpus in groups.items())
        yield Finding(Level.WARNING, clause, details)


def _failed(sample: Sample) -> Iterator[Finding]:
    failed = sample.failed
    if not failed:
        return
    details = [] if sample.known else ["What follows is what a thread read where it happened to run."]
    if len(failed) > FEW:
        details.append("The end of this page says for each CPU why it could not be read.")
    else:
        details += [f"CPU {cpu} failed: {why}" for cpu, why in sorted(failed.items())]
    who = f"{len(failed)} CPUs" if len(failed) > 1 else f"CPU {min(failed)}"
    yield Finding(Level.WARNING, f"{who} could not be read", tuple(details))


def _calm(observation: Observation, *, changed: bool) -> str:
    sample = observation.sample
    if len(sample.sampled) < sample.online:
        cpus = f"{len(sample.sampled)} of {sample.online} CPUs sampled, all alike"
    else:
        cpus = f"all {sample.online} CPUs alike" if sample.online > 1 else "1 CPU"
    unchanged = ", nothing changed since boot" if observation.reference is not None and not changed else ""
    return f"KVM, {cpus}{unchanged}"


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
