"""Whether a running guest can move from one machine to another, as far as KVM's leaves tell.

Each lost or gained feature is judged by what it does to a running guest (outcomes.py). Cloud Hypervisor is stricter: it
demands that the source's words are a bitwise subset of the target's (vmm/src/migration.rs).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kvm_exporter.cpuid.cpulist import format_cpu_list
from kvm_exporter.kvm.consistency import inconsistencies
from kvm_exporter.kvm.drift import Difference, difference, difference_of_samples
from kvm_exporter.kvm.effects import Effect, Weight, effects
from kvm_exporter.kvm.features import Feature
from kvm_exporter.kvm.host import VMM_ONLY, at_most, in_form_of
from kvm_exporter.kvm.leaves import Leaves
from kvm_exporter.kvm.outcomes import IDENTITY
from kvm_exporter.kvm.processor import UNKNOWN, Processor
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import divergences, identity, tsc_words

SCOPE = "as far as KVM's leaves tell"
"""Every verdict says it: other leaves, devices and memory are not compared."""

SCOPE_OF_HOST = f"{SCOPE}, if the host's VMM offers what its KVM can"
"""What a good verdict says where a dump is a host's."""

_UNKNOWN_OF_HOST = (
    "base and signatures",
    *(feature.name for feature in VMM_ONLY),
)
"""What a VMM decides, so that a host's dump does not tell it."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One difference between two machines, or one contradiction of the source's features."""

    weight: Weight
    #: Such as ``lost: steal_time (eax bit 5)`` or ``contradictory: async_pf_int (eax bit 14) without async_pf (…)``.
    what: str
    why: str
    #: What it does to a running guest, where the difference is one of a feature.
    effect: Effect | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """One machine of a comparison."""

    sample: Sample
    processor: Processor = UNKNOWN
    #: Whether it is a host's dump: what its KVM can offer to guests, not what a guest is offered.
    of_host: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every reason for or against a move, the worst first."""

    source: Side
    target: Side
    reasons: tuple[Reason, ...]
    #: What could not be compared, because a dump lacks the leaf, or is a host's.
    unknown: tuple[str, ...]

    @property
    def compatible(self) -> bool:
        """Whether nothing is lost without which a running guest may suffer under a usual VMM."""
        return all(reason.weight < Weight.INCOMPATIBLE for reason in self.reasons)

    @property
    def scope(self) -> str:
        """What the verdict rests on."""
        return SCOPE_OF_HOST if self.compatible and (self.source.of_host or self.target.of_host) else SCOPE

    @property
    def warnings(self) -> int:
        """How many reasons are warnings."""
        return sum(reason.weight is Weight.WARNING for reason in self.reasons)

    @property
    def verdict(self) -> str:
        """One line, with what it does not cover."""
        if not self.compatible:
            return f"incompatible, {self.scope}"
        return f"compatible{' with warnings' if self.warnings else ''}, {self.scope}"


def compare(source: Side, target: Side) -> Comparison:
    """Compare each feature set of a guest's CPUs with each CPU of the machine that it is to move to.

    Either may be a host's dump. What a VMM decides there is neither lost nor gained, and unknown.
    """
    reasons = [*_of_processors(source, target), *_of_uneven_cpus(source.sample)]
    for before, after in _feature_sets(source, target):
        reasons += _of_leaves(before, after)
    reasons += _of_tsc(source, target)
    worst: dict[str, Reason] = {}
    for reason in sorted(reasons, key=lambda reason: -reason.weight):
        worst.setdefault(reason.what, reason)
    return Comparison(source, target, tuple(worst.values()), tuple(_unknown(source, target)))


def _unknown(source: Side, target: Side) -> Iterator[str]:
    of_host = source.of_host or target.of_host
    if None in {source.processor.vendor, target.processor.vendor}:
        yield "cpu vendor"
    if of_host or None in {source.processor.family, target.processor.family}:
        yield "cpu family"
    if of_host or None in {source.sample.tsc_khz, target.sample.tsc_khz}:
        yield "tsc frequency"
    if of_host:
        yield from _UNKNOWN_OF_HOST
    if target.of_host:
        yield "gained features"


def _feature_sets(source: Side, target: Side) -> Iterator[tuple[Leaves, Mapping[int, Leaves]]]:
    """Yield each feature set that CPUs of the source have, with the leaves of the target's CPUs.

    What a host's dump does not tell is taken from the other side.
    """
    if target.of_host:
        for before in source.sample.groups:
            yield before, {0: at_most(before, target.sample.common)}
    elif source.of_host:
        yield in_form_of(target.sample.common, source.sample.common), target.sample.known
    else:
        for before in source.sample.groups:
            yield before, target.sample.known


def _of_processors(source: Side, target: Side) -> Iterator[Reason]:
    before, after = source.processor, target.processor
    if before.vendor is not None and after.vendor is not None and before.vendor != after.vendor:
        what = f"CPU vendor: {after.vendor} instead of {before.vendor}"
        yield Reason(Weight.INCOMPATIBLE, what, "A running kernel has patched itself for the vendor that it booted on.")
    elif source.of_host or target.of_host:
        return
    elif before.family is not None and after.family is not None and before.family != after.family:
        what = f"CPU family: {after.family:#x} instead of {before.family:#x}"
        yield Reason(Weight.WARNING, what, "Leaves other than KVM's differ between families, and are not compared.")


def _of_uneven_cpus(source: Sample) -> Iterator[Reason]:
    why = "A feature that is lost or gained may be so for some of the source's CPUs only."
    for cpus, words in divergences(source):
        yield Reason(Weight.WARNING, f"source: CPU {format_cpu_list(cpus)} differs: {words}", why)


def _of_leaves(before: Leaves, target: Mapping[int, Leaves]) -> Iterator[Reason]:
    found: dict[Difference, list[int]] = {}
    for cpu, leaves in target.items():
        found.setdefault(difference(before, leaves), []).append(cpu)
    for change, cpus in found.items():
        where = f" on CPU {format_cpu_list(cpus)}" if len(found) > 1 else ""
        yield from _of_change(change, before, target[cpus[0]], where)
    yield from _of_contradictions(before, {feature for change in found for feature in change.lost})


def _of_change(change: Difference, before: Leaves, after: Leaves, where: str) -> Iterator[Reason]:
    if change.identity:
        what = f"hypervisor: {identity(after)} instead of {identity(before)}{where}"
        yield Reason(Weight.INCOMPATIBLE, what, IDENTITY)
    for effect in effects(change, before):
        what = f"{effect.change}: {effect.feature.title}{where}"
        yield Reason(effect.weight, what, effect.text, effect)


def _of_contradictions(before: Leaves, lost: set[Feature]) -> Iterator[Reason]:
    """Yield each contradiction of the source's features: it harms a guest at any move, whatever the target offers.

    A contradiction whose feature is lost is left out: the effect of the loss says the same.
    """
    for one in inconsistencies(before):
        if one.rule.contradiction and not lost.intersection(one.features):
            yield Reason(one.rule.weight, f"contradictory: {one.words}", f"{one.rule.follows} {one.rule.action}")


def _of_tsc(source: Side, target: Side) -> Iterator[Reason]:
    if source.of_host or target.of_host:
        return
    change = difference_of_samples(source.sample, target.sample)
    if change.tsc is None:
        return
    if change.tsc_changed:
        why = "A guest whose clock is the TSC counts time with the frequency that it found at boot."
        yield Reason(Weight.INCOMPATIBLE, tsc_words(change.tsc), why)
    elif change.tsc.after is None:
        why = "Whether the target's TSC has the same frequency is unknown."
        yield Reason(Weight.WARNING, tsc_words(change.tsc), why)
