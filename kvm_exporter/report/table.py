"""Formats an observation as a table for the terminal or as JSON, and the comparison of two samples as text."""

import json
from collections.abc import Iterator

from kvm_exporter.collector.observer import Observation, supported
from kvm_exporter.kvm.drift import difference, may_move
from kvm_exporter.kvm.leaves import fingerprint, printable
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import cpu_counts, describe, divergence, summary


def table(observation: Observation) -> str:
    """Return the table: signatures, every feature bit, and the CPUs that differ or could not be read."""
    sample = observation.sample
    return "\n".join([*_head(sample), *_features(observation), *_cpus(sample)]) + "\n"


def comparison(source: Sample, target: Sample) -> str:
    """Return what changes for a guest that migrates from one machine to another, and whether it may."""
    change = difference(source.common, target.common)
    lines = [f"from: {summary(source.common)}", f"to:   {summary(target.common)}"]
    if change:
        lines.append(describe(change, source.common, target.common, "lost:", "gained:").replace("; ", "\n"))
    lines += [f"on the target, CPU {cpu} differs: {divergence(target, cpu)}" for cpu in target.divergent]
    verdict = (
        "compatible"
        if may_move(source, target)
        else "incompatible: a running guest would lose a feature or KVM, or find other signatures"
    )
    return "\n".join([*lines, verdict, ""])


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
        "tsc_khz": kvm.timing.tsc_khz if kvm and kvm.timing else None,
        "bus_khz": kvm.timing.bus_khz if kvm and kvm.timing else None,
        "features": [
            {
                "name": feature.name,
                "register": feature.register,
                "bit": feature.bit,
                "offered": common.offers(feature),
                "cpus": sample.offering(feature),
                "in_use": observation.in_use.get(feature),
                "host": supported(observation, feature),
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
    }
    return json.dumps(value, indent=2) + "\n"


def _divergent(sample: Sample, cpu: int) -> dict[str, object]:
    change = difference(sample.common, sample.sampled[cpu])
    return {
        "cpu": cpu,
        "summary": summary(sample.sampled[cpu]),
        "difference": divergence(sample, cpu),
        "lacks": [feature.name for feature in change.lost],
        "has": [feature.name for feature in change.gained],
    }


def _head(sample: Sample) -> Iterator[str]:
    yield summary(sample.common)
    for found in sample.common.hypervisors:
        yield f"  signature {printable(found.signature)} at {found.base:#010x}, highest leaf {found.max_leaf:#010x}"
    kvm = sample.common.kvm
    if kvm is not None and kvm.timing is not None:
        yield f"  TSC {kvm.timing.tsc_khz / 1000:g} MHz, APIC bus {kvm.timing.bus_khz / 1000:g} MHz"


def _features(observation: Observation) -> Iterator[str]:
    sample = observation.sample
    if not sample.features:
        return
    # A dump has no evidence of the guest kernel or the host.
    live = bool(observation.collectors)
    more = f"{'USED':<5} {'HOST':<5}" if live else ""
    yield ""
    yield f"{'BIT':<7} {'FEATURE':<23} {'OFFERED':<8} {'CPUS':>5}  {more}MEANING"
    for feature in sample.features:
        position = f"{feature.register} {feature.bit}"
        offered = _yes_no(sample.common.offers(feature))
        used, host = observation.in_use.get(feature), supported(observation, feature)
        more = f"{_yes_no(used):<5} {_yes_no(host):<5}" if live else ""
        yield f"{position:<7} {feature.name:<23} {offered:<8} {sample.offering(feature):>5}  {more}{feature.meaning}"


def _yes_no(value: bool | None) -> str:  # noqa: FBT001 - the value to write
    return {True: "yes", False: "no", None: "?"}[value]


def _cpus(sample: Sample) -> Iterator[str]:
    yield ""
    yield f"CPUs: {cpu_counts(sample)}"
    for cpu in sample.divergent:
        yield f"CPU {cpu} differs: {divergence(sample, cpu)}"
    for cpu, why in sorted(sample.failed.items()):
        yield f"CPU {cpu} failed: {why}"


def _hex(number: int) -> str:
    return f"{number:#010x}"
