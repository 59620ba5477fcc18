"""Whether a running guest can move from one machine to another, as far as KVM's leaves tell.

Each lost or gained feature is judged by what it does to a running guest (outcomes.py). Cloud Hypervisor is stricter: it
demands that the source's words are a bitwise subset of the target's (vmm/src/migration.rs).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

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
from kvm_exporter.kvm.words import identity, tsc_words

SCOPE = "as far as KVM's leaves tell"
"""Every verdict says it: other leaves, devices and memory are not compared."""

SCOPE_OF_HOST = f"{SCOPE}, if the host's VMM offers what its KVM can"
"""What a good verdict says where a dump is a host's."""

_UNKNOWN_OF_HOST = (
    "cpu family",
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
    """Compare a guest's machine with each CPU of the machine that it is to move to.

    Either may be a host's dump. What a VMM decides there is neither lost nor gained, and unknown.
    """
    before, after = _assumed_equal(source, target)
    reasons = (*_of_processors(before.processor, after.processor), *_of_leaves(before.sample, after.sample))
    unknown = []
    if None in {source.processor.vendor, target.processor.vendor}:
        unknown.append("cpu vendor")
    if None in {source.sample.tsc_khz, target.sample.tsc_khz}:
        unknown.append("tsc frequency")
    if source.of_host or target.of_host:
        unknown += _UNKNOWN_OF_HOST
    if target.of_host:
        unknown.append("gained features")
    return Comparison(source, target, tuple(sorted(reasons, key=lambda reason: -reason.weight)), tuple(unknown))


def _assumed_equal(source: Side, target: Side) -> tuple[Side, Side]:
    """Return both sides, with what a host's dump does not tell taken from the other side."""
    if target.of_host:
        target = _with_leaves(target, at_most(source.sample.common, target.sample.common))
    elif source.of_host:
        source = _with_leaves(source, in_form_of(target.sample.common, source.sample.common))
    return source, target


def _with_leaves(host: Side, leaves: Leaves) -> Side:
    processor = replace(host.processor, family=None)
    return replace(host, sample=replace(host.sample, sampled={0: leaves}), processor=processor)


def _of_processors(source: Processor, target: Processor) -> Iterator[Reason]:
    if source.vendor is not None and target.vendor is not None and source.vendor != target.vendor:
        what = f"CPU vendor: {target.vendor} instead of {source.vendor}"
        yield Reason(Weight.INCOMPATIBLE, what, "A running kernel has patched itself for the vendor that it booted on.")
    elif source.family is not None and target.family is not None and source.family != target.family:
        what = f"CPU family: {target.family:#x} instead of {source.family:#x}"
        yield Reason(Weight.WARNING, what, "Leaves other than KVM's differ between families, and are not compared.")


def _of_leaves(source: Sample, target: Sample) -> Iterator[Reason]:
    before = source.common
    found: dict[Difference, list[int]] = {}
    for cpu, leaves in (target.known or {0: target.common}).items():
        found.setdefault(difference(before, leaves), []).append(cpu)
    for change, cpus in found.items():
        where = f" on CPU {format_cpu_list(cpus)}" if len(found) > 1 else ""
        after = target.known[cpus[0]] if target.known else target.common
        yield from _of_change(change, before, after, where)
    yield from _of_contradictions(before, {feature for change in found for feature in change.lost})
    yield from _of_tsc(difference_of_samples(source, target))


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


def _of_tsc(change: Difference) -> Iterator[Reason]:
    if change.tsc is None:
        return
    if change.tsc_changed:
        why = "A guest whose clock is the TSC counts time with the frequency that it found at boot."
        yield Reason(Weight.INCOMPATIBLE, tsc_words(change.tsc), why)
    elif change.tsc.after is None:
        why = "Whether the target's TSC has the same frequency is unknown."
        yield Reason(Weight.WARNING, tsc_words(change.tsc), why)
