"""A sample for people in a terminal, and as JSON for their scripts."""

import json
from collections.abc import Iterator

from kvm_exporter.collector.host import host_features
from kvm_exporter.collector.observer import Observation
from kvm_exporter.kvm.drift import Difference, difference, fingerprint, may_move
from kvm_exporter.kvm.features import Feature
from kvm_exporter.kvm.leaves import Leaves, printable
from kvm_exporter.kvm.sample import Sample


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


def table(observation: Observation) -> str:
    """Signature, every feature bit, and the CPUs that differ or could not be read."""
    sample = observation.sample
    return "\n".join([*_head(sample), *_features(observation), *_cpus(sample)]) + "\n"


def comparison(source: Sample, target: Sample) -> str:
    """What a guest finds that moves from one machine to another, and whether it may."""
    change = difference(source.common, target.common)
    lines = [f"from: {summary(source.common)}", f"to:   {summary(target.common)}"]
    if change:
        lines.append(describe(change, source.common, target.common, "lost:", "gained:").replace("; ", "\n"))
    lines += [f"there, CPU {cpu} differs: {divergence(target, cpu)}" for cpu in target.divergent]
    verdict = (
        "yes: a running guest misses nothing"
        if may_move(source, target)
        else "no: a running guest would miss something"
    )
    return "\n".join([*lines, verdict, ""])


def as_json(observation: Observation) -> str:
    """The same as one JSON object; what is not known is null."""
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


def describe(change: Difference, before: Leaves, after: Leaves, lost: str = "lost", gained: str = "gained") -> str:
    """A difference in words, every feature with its place; ``lost`` and ``gained`` are the verbs."""
    phrases = [
        f"{verb} {', '.join(f'{feature.name} ({feature.register} bit {feature.bit})' for feature in features)}"
        for verb, features in ((lost, change.lost), (gained, change.gained))
        if features
    ]
    if change.identity:
        phrases.append(f"{_identity(after)} instead of {_identity(before)}")
    return "; ".join(phrases)


def cpu_counts(sample: Sample) -> str:
    """How many CPUs are online, and in each state that any is in."""
    counts = (f"{len(cpus)} {state}" for state, cpus in sample.states.items() if cpus)
    return ", ".join((f"{sample.online} online", *counts))


def divergence(sample: Sample, cpu: int) -> str:
    """What a CPU lacks or has beyond the common leaves."""
    common, other = sample.common, sample.sampled[cpu]
    return describe(difference(common, other), common, other, "lacks", "has")


def _identity(leaves: Leaves) -> str:
    if leaves.hypervisors:
        return " and ".join(f"{printable(found.signature)} at {found.base:#010x}" for found in leaves.hypervisors)
    return "a hypervisor without a signature" if leaves.hypervisor_bit else "no hypervisor bit"


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
    # A dump says nothing of its kernel, nor of the host.
    live = bool(observation.collectors)
    more = f"{'USED':<5} {'HOST':<5}" if live else ""
    yield ""
    yield f"{'BIT':<7} {'FEATURE':<23} {'OFFERED':<8} {'CPUS':>5}  {more}MEANING"
    for feature in sample.features:
        place = f"{feature.register} {feature.bit}"
        offered = _answer(sample.common.offers(feature))
        used, host = observation.in_use.get(feature), supported(observation, feature)
        more = f"{_answer(used):<5} {_answer(host):<5}" if live else ""
        yield f"{place:<7} {feature.name:<23} {offered:<8} {sample.offering(feature):>5}  {more}{feature.meaning}"


def _answer(value: bool | None) -> str:  # noqa: FBT001 - it is the thing that is written
    return {True: "yes", False: "no", None: "?"}[value]


def supported(observation: Observation, feature: Feature) -> bool | None:
    """Whether this machine's own KVM can offer a feature to guests of its own; None if that is not known."""
    if observation.host is None or feature not in host_features(observation.host):
        return None
    return bool(observation.host.eax & feature.mask)


def _cpus(sample: Sample) -> Iterator[str]:
    yield ""
    yield f"CPUs: {cpu_counts(sample)}"
    for cpu in sample.divergent:
        yield f"CPU {cpu} differs: {divergence(sample, cpu)}"
    for cpu, why in sorted(sample.failed.items()):
        yield f"CPU {cpu} failed: {why}"


def _hex(number: int) -> str:
    return f"{number:#010x}"
