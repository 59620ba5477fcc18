"""A sample for people in a terminal, and as JSON for their scripts."""

import json
from collections.abc import Collection, Iterator

from kvm_exporter.drift import fingerprint
from kvm_exporter.features import features_of
from kvm_exporter.leaves import Leaves
from kvm_exporter.metrics import printable
from kvm_exporter.sample import Sample


def summary(leaves: Leaves) -> str:
    """What the machine is, in one line: for the log, systemctl status and the head of a table."""
    if leaves.kvm is not None:
        kvm = leaves.kvm
        offer = f"features EAX {kvm.eax:#010x}, EDX {kvm.edx:#010x}"
        return f"KVM at {kvm.base:#010x}, {offer}, fingerprint {fingerprint(kvm)}"
    if leaves.hypervisors:
        names = ", ".join(f"{printable(found.signature)!r} at {found.base:#010x}" for found in leaves.hypervisors)
        return f"no KVM: the hypervisor says {names}"
    if leaves.hypervisor_bit:
        return "no KVM: a hypervisor is present, but shows no signature"
    return "no KVM: no hypervisor bit in leaf 1 (bare metal, or hidden)"


def table(sample: Sample) -> str:
    """Signature, every feature bit, and the CPUs that differ or could not be read."""
    return "\n".join([*_head(sample), *_features(sample), *_cpus(sample)]) + "\n"


def as_json(sample: Sample) -> str:
    """The same as one JSON object."""
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
                "offered": kvm is not None and kvm.offers(feature),
                "cpus": sample.offering(feature),
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
        "divergent": [
            {
                "cpu": cpu,
                "summary": summary(sample.sampled[cpu]),
                "differences": difference(common, sample.sampled[cpu]),
            }
            for cpu in sample.divergent
        ],
    }
    return json.dumps(value, indent=2) + "\n"


def difference(common: Leaves, other: Leaves) -> list[str]:
    """What a CPU lacks or has beyond the common leaves, a phrase each."""
    mine, its = common.kvm, other.kvm
    if mine is None or its is None or mine.base != its.base:
        return [summary(other)]
    features = features_of(mine.eax | its.eax, mine.edx | its.edx)
    return [
        f"{'lacks' if mine.offers(feature) else 'has'} {feature.name}"
        for feature in features
        if mine.offers(feature) != its.offers(feature)
    ]


def _head(sample: Sample) -> Iterator[str]:
    yield summary(sample.common)
    for found in sample.common.hypervisors:
        yield f"  signature {printable(found.signature)} at {found.base:#010x}, highest leaf {found.max_leaf:#010x}"
    kvm = sample.common.kvm
    if kvm is not None and kvm.timing is not None:
        yield f"  TSC {kvm.timing.tsc_khz / 1000:g} MHz, APIC bus {kvm.timing.bus_khz / 1000:g} MHz"


def _features(sample: Sample) -> Iterator[str]:
    if not sample.features or sample.common.kvm is None:
        return
    yield ""
    yield f"{'BIT':<7} {'FEATURE':<23} {'OFFERED':<8} {'CPUS':>5}  MEANING"
    for feature in sample.features:
        offered = "yes" if sample.common.kvm.offers(feature) else "-"
        place = f"{feature.register} {feature.bit}"
        yield f"{place:<7} {feature.name:<23} {offered:<8} {sample.offering(feature):>5}  {feature.meaning}"


def _cpus(sample: Sample) -> Iterator[str]:
    yield ""
    states = (f"{len(cpus)} {state}" for state, cpus in _states(sample) if cpus)
    yield f"CPUs: {sample.online} online, {', '.join(states)}"
    for cpu in sample.divergent:
        yield f"CPU {cpu} differs: {', '.join(difference(sample.common, sample.sampled[cpu]))}"
    for cpu, why in sorted(sample.failed.items()):
        yield f"CPU {cpu} failed: {why}"


def _states(sample: Sample) -> tuple[tuple[str, Collection[int]], ...]:
    return (
        ("sampled", sample.sampled),
        ("retained", sample.retained),
        ("skipped", sample.skipped),
        ("failed", sample.failed),
    )


def _hex(number: int) -> str:
    return f"{number:#010x}"
