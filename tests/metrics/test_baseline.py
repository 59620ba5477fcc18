"""kvm_exporter.metrics.baseline: what is expected, and which bits violate it."""

from collections.abc import Mapping

import pytest

from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.features import feature_named
from kvm_exporter.kvm.leaves import Leaves
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.metrics.baseline import baseline_families
from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.negotiation import Format
from lab.readers import guest, sample_of
from lab.scrape import Scrape

BIT = ("feature", "register", "bit")

STEAL_TIME, BIT_30, REALTIME = ("steal_time", "eax", "5"), ("eax_bit_30", "eax", "30"), ("hints_realtime", "edx", "0")

BASELINE = Baseline(
    required=(feature_named("steal_time"), feature_named("eax_bit_30")), forbidden=(feature_named("hints_realtime"),)
)

KEPT, VIOLATED = guest(0x4000_0020), guest(0, 1)


def scrape(baseline: Baseline, sample: Sample | None) -> Scrape:
    """Return a scrape of the metrics of a baseline."""
    return Scrape(render(baseline_families(baseline, sample), Format.TEXT_0_0_4).decode())


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        (Baseline(), {}),
        (BASELINE, {STEAL_TIME: 1, BIT_30: 1, REALTIME: 0}),
        (Baseline(forbidden=(feature_named("eax_bit_24"),)), {("clocksource_stable_bit", "eax", "24"): 0}),
    ],
    ids=["empty", "both", "by its place"],
)
def test_what_is_expected(baseline: Baseline, expected: Mapping[tuple[str, ...], int]) -> None:
    """A required feature is 1, a forbidden one 0, any other absent, whatever a sample has."""
    for sample in (None, sample_of({0: KEPT})):
        assert scrape(baseline, sample).values("kvm_feature_expected", *BIT) == expected


@pytest.mark.parametrize(
    ("cpus", "violations"),
    [
        ([KEPT], {}),
        ([VIOLATED], {STEAL_TIME: -1, BIT_30: -1, REALTIME: 1}),
        ([guest(0x20, 1)], {BIT_30: -1, REALTIME: 1}),
        ([Leaves(hypervisor_bit=True)], {STEAL_TIME: -1, BIT_30: -1}),
        ([KEPT, KEPT, VIOLATED], {}),
        ([VIOLATED, VIOLATED, KEPT], {STEAL_TIME: -1, BIT_30: -1, REALTIME: 1}),
    ],
    ids=["none", "all", "some", "no KVM", "a CPU that differs", "most CPUs"],
)
def test_what_violates_it(cpus: list[Leaves], violations: Mapping[tuple[str, ...], int]) -> None:
    """A required bit that most CPUs lack is -1, a forbidden bit that most CPUs have is 1; any other is absent."""
    sample = sample_of(dict(enumerate(cpus)))
    assert scrape(BASELINE, sample).values("kvm_baseline_violation", *BIT) == violations


def test_without_a_sample_nothing_violates_it() -> None:
    """What the machine is offered is not known then."""
    assert "kvm_baseline_violation" not in scrape(BASELINE, None).text
