"""Summarises an observation for people: a headline, and the problems of the machine with details.

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
"""Up to this many CPUs that could not be read are listed in the details; more are listed at the end of the page."""


class Level(IntEnum):
    """How urgent a finding is."""

    OK = 0
    NOTE = 1
    WARNING = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """A state or problem of the machine: a clause for the headline, and sentences with the details."""

    level: Level
    clause: str
    details: tuple[str, ...] = ()


def findings(observation: Observation | None, baseline: Baseline | None, *, success: bool) -> tuple[Finding, ...]:
    """Return at least one finding, the most urgent first. ``success``: the last attempt to sample succeeded."""
    if observation is None:
        return (
            Finding(
                Level.CRITICAL,
                "no sample yet",
                ("CPUID has not been read successfully yet; see the log of the exporter.",),
            ),
        )
    found = [*_attempt(success=success), *_machine(observation, baseline)]
    if all(finding.level is Level.NOTE for finding in found) and observation.sample.common.kvm is not None:
        found.append(Finding(Level.OK, _ok_clause(observation, changed=bool(found))))
    return tuple(sorted(found, key=lambda finding: -finding.level))


def headline(found: Iterable[Finding]) -> str:
    """Return the clauses of all findings in one line."""
    return _capital("; ".join(finding.clause for finding in found))


def _attempt(*, success: bool) -> Iterator[Finding]:
    if not success:
        details = "This page shows the last good sample; see the log of the exporter for the error."
        yield Finding(Level.WARNING, "last attempt to sample failed", (details,))


def _machine(observation: Observation, baseline: Baseline | None) -> Iterator[Finding]:
    sample = observation.sample
    boot = observation.boot or sample.common
    if sample.common.kvm is None:
        yield _no_kvm(sample.common, boot)
    yield from _since_boot(boot, sample.common)
    if baseline is not None and (lines := violations(baseline, sample)):
        clause = _count(lines, "baseline violation")
        yield Finding(Level.WARNING, clause, tuple(f"Baseline: {line}" for line in lines))
    yield from _divergent(sample)
    yield from _failed(sample)


def _no_kvm(common: Leaves, boot: Leaves) -> Finding:
    details = _capital(summary(common).removeprefix("no KVM: "))
    if boot.kvm is not None:
        return Finding(Level.CRITICAL, "KVM is gone since boot", (details,))
    return Finding(Level.NOTE, "no KVM", (details, "This is not an error: only KVM has these features."))


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
    details = [] if sample.known else ["The values below were read by an unpinned thread, on whichever CPU it ran."]
    if len(failed) > FEW:
        details.append("The end of this page lists the reason for each CPU.")
    else:
        details += [f"CPU {cpu} failed: {why}" for cpu, why in sorted(failed.items())]
    subject = f"{len(failed)} CPUs" if len(failed) > 1 else f"CPU {min(failed)}"
    yield Finding(Level.WARNING, f"{subject} could not be read", tuple(details))


def _ok_clause(observation: Observation, *, changed: bool) -> str:
    sample = observation.sample
    if len(sample.sampled) < sample.online:
        cpus = f"{len(sample.sampled)} of {sample.online} CPUs sampled, all alike"
    else:
        cpus = f"all {sample.online} CPUs alike" if sample.online > 1 else "1 CPU"
    unchanged = ", nothing changed since boot" if observation.reference is not None and not changed else ""
    return f"KVM, {cpus}{unchanged}"


def _count(items: Sized, noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
