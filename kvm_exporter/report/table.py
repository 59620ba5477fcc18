"""Formats an observation as a table for the terminal or as JSON."""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict

from kvm_exporter.collector.boot import BootReference
from kvm_exporter.collector.conditions import Answer, Use
from kvm_exporter.collector.observer import Observation, supported
from kvm_exporter.kvm.drift import difference
from kvm_exporter.kvm.effects import Level
from kvm_exporter.kvm.host_settings import host_setting
from kvm_exporter.kvm.leaves import fingerprint, printable
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import clock_words, cpu_counts, divergence, mhz, moment, summary
from kvm_exporter.report.columns import observed_columns, yes_no
from kvm_exporter.report.effects import effect_json
from kvm_exporter.report.findings import Finding, findings
from kvm_exporter.report.kinds import CPUS_DIFFER, CPUS_UNREAD, NO_KVM, REFERENCE_VOLATILE
from kvm_exporter.report.lines import fitting, wrapped

WIDTH = 80
"""Characters of a line that a person reads in a terminal."""


def table(observation: Observation, width: int | None = None) -> str:
    """Return the table: signatures, every feature bit, and the CPUs that differ or could not be read.

    ``width`` is that of the terminal, in characters (None: not a terminal): longer lines are wrapped, and the features'
    meanings are left out if they do not fit.
    """
    lines = [
        *_head(observation),
        *fitting(_features(observation, meanings=True), _features(observation, meanings=False), width),
        *_reasons(observation),
        *_cpus(observation.sample),
        *_findings(observation),
    ]
    return wrapped(lines, width)


def as_json(observation: Observation) -> str:
    """Return the observation as one JSON object; unknown values are null."""
    sample = observation.sample
    common, kvm = sample.common, sample.common.kvm
    value = {
        "kvm": kvm is not None,
        "hypervisor_bit": common.hypervisor_bit,
        "hypervisors": [
            {"signature": printable(found.signature), "base": _hex(found.base), "max_leaf": _hex(found.max_leaf)}
            for found in common.hypervisors
        ],
        "base": _hex(kvm.base) if kvm else None,
        "eax": _hex(kvm.eax) if kvm else None,
        "edx": _hex(kvm.edx) if kvm else None,
        "fingerprint": fingerprint(kvm) if kvm else None,
        "tsc_khz": common.tsc_khz,
        "bus_khz": (kvm.timing.bus_khz or None) if kvm and kvm.timing else None,
        "clock": asdict(sample.clock) if sample.clock is not None else None,
        "features": [
            {
                "name": feature.name,
                "register": feature.register,
                "bit": feature.bit,
                "offered": common.offers(feature),
                "cpus": sample.offering(feature),
                **_in_use(observation.in_use.get(feature)),
                "host": supported(observation, feature),
                # What would change the answer.
                "host_setting": asdict(host_setting(feature, offered=not common.offers(feature))),
            }
            for feature in sample.features
        ],
        "cpus": {
            "online": sample.online,
            "sampled": sorted(sample.sampled),
            "retained": sorted(sample.retained),
            "skipped": sorted(sample.skipped),
            "failed": {str(cpu): why for cpu, why in sorted(sample.failed.items())},
        },
        "divergent": [_divergent(sample, cpu) for cpu in sample.divergent],
        "boot_reference": _reference(observation.reference),
        "findings": [_finding(finding) for finding in findings(observation, None, success=sample.pinned)],
    }
    return json.dumps(value, indent=2) + "\n"


def _in_use(use: Use | None) -> dict[str, object]:
    enabled, reason = (use.enabled, use.explanation) if use is not None else (None, None)
    return {"in_use": enabled, "in_use_reason": reason}


def _reference(reference: BootReference | None) -> dict[str, object] | None:
    if reference is None:
        return None
    return {
        "timestamp": reference.timestamp,
        "uptime": reference.uptime,
        "late": reference.late,
        "tsc_khz": reference.tsc_khz,
        "changed": reference.changed,
        "change": reference.change,
    }


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind.name,
        "level": finding.level.name.lower(),
        "what": finding.clause,
        "details": list(finding.details),
        "since": finding.since,
        "evidence": finding.kind.evidence,
        "follows": finding.kind.follows,
        "action": finding.kind.action,
        "effects": [effect_json(effect) for effect in finding.effects],
    }


def _divergent(sample: Sample, cpu: int) -> dict[str, object]:
    change = difference(sample.common, sample.known[cpu])
    return {
        "cpu": cpu,
        "summary": summary(sample.known[cpu]),
        "difference": divergence(sample, cpu),
        "lacks": [feature.name for feature in change.lost],
        "has": [feature.name for feature in change.gained],
    }


def _head(observation: Observation) -> Iterator[str]:
    sample = observation.sample
    yield summary(sample.common)
    for found in sample.common.hypervisors:
        yield f"  signature {printable(found.signature)} at {found.base:#010x}, highest leaf {found.max_leaf:#010x}"
    kvm = sample.common.kvm
    if kvm is not None and kvm.timing is not None:
        yield f"  TSC {mhz(kvm.timing.tsc_khz)}, APIC bus {mhz(kvm.timing.bus_khz)}"
    if sample.clock is not None:
        yield f"  {clock_words(sample.clock)}"
    if (reference := observation.reference) is not None:
        taken = moment(reference.timestamp)
        yield f"  boot reference: the first sample of this boot, {taken}; changes {reference.since}"


def _features(observation: Observation, *, meanings: bool) -> Iterator[str]:
    sample = observation.sample
    if not sample.features:
        return
    features, columns = sample.features, []
    for column in observed_columns(observation):
        cells = [column.cell(feature) for feature in features]
        columns.append((column.title.upper(), max(len(column.title), *map(len, cells)), cells))
    more = "".join(f"{title:<{width}} " for title, width, _ in columns)
    yield ""
    yield f"{'BIT':<7} {'FEATURE':<23} {'OFFERED':<8} {'CPUS':>5}  {more}{'MEANING' * meanings}".rstrip()
    for row, feature in enumerate(sample.features):
        position = f"{feature.register} {feature.bit}"
        offered = yes_no(sample.common.offers(feature))
        more = "".join(f"{cells[row]:<{width}} " for _, width, cells in columns)
        more += feature.meaning * meanings
        yield f"{position:<7} {feature.name:<23} {offered:<8} {sample.offering(feature):>5}  {more}".rstrip()


def _reasons(observation: Observation) -> Iterator[str]:
    """The reasons for the column USED, each with the features that it is for, in lines of WIDTH."""
    features: dict[Use, list[str]] = {}
    for feature in observation.sample.features:
        use = observation.in_use.get(feature)
        if use is not None and use.answer is not Answer.NOTHING:
            features.setdefault(use, []).append(feature.name)
    if features:
        yield from ("", "USED, and why:")
    for use in sorted(features, key=lambda use: list(Answer).index(use.answer)):
        line = f"{use.answer} ({use.reason}): {', '.join(features[use])}"
        yield from textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _findings(observation: Observation) -> Iterator[str]:
    """What is wrong or unknown; what the CPUs' own lines say is not repeated."""
    for finding in findings(observation, None, success=True):
        if finding.level is not Level.OK and finding.kind not in {NO_KVM, CPUS_DIFFER, CPUS_UNREAD, REFERENCE_VOLATILE}:
            first, *more = finding.details or (finding.clause,)
            yield f"{finding.level.name}: {first}"
            yield from (f"  {line}" for line in more)
            yield f"  do: {finding.kind.action}"


def _cpus(sample: Sample) -> Iterator[str]:
    yield ""
    yield f"CPUs: {cpu_counts(sample)}"
    for cpu in sample.divergent:
        yield f"CPU {cpu} differs: {divergence(sample, cpu)}"
    for cpu, why in sorted(sample.failed.items()):
        yield f"CPU {cpu} failed: {why}"


def _hex(number: int) -> str:
    return f"{number:#010x}"
