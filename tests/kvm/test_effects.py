"""kvm_exporter.kvm.effects: what each bit does when it is lost or gained, by what the kernel booted with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.kvm.drift import Difference, TscChange, difference
from kvm_exporter.kvm.effects import NOTHING, Effect, Level, Weight, advice, effects, urgency
from kvm_exporter.kvm.features import FEATURES, Feature, Register, feature_at, feature_named
from kvm_exporter.kvm.leaves import Leaves
from kvm_exporter.kvm.outcomes import GAINED, LOST, Change, Circumstance, Severity
from lab.readers import guest

EVERY_EAX = sum(feature.mask for feature in FEATURES if feature.register == "eax")

HARMLESS, WARNING, INCOMPATIBLE = Weight

LOSSES = {
    # What may a guest that found everything but the hint lose on a move, and how urgent is it afterwards?
    "clocksource": (INCOMPATIBLE, Level.WARNING),
    "nop_io_delay": (HARMLESS, Level.NOTE),
    "mmu_op": (HARMLESS, Level.NOTE),
    "clocksource2": (INCOMPATIBLE, Level.CRITICAL),
    "async_pf": (INCOMPATIBLE, Level.WARNING),
    "steal_time": (INCOMPATIBLE, Level.CRITICAL),
    "pv_eoi": (WARNING, Level.NOTE),
    "pv_unhalt": (INCOMPATIBLE, Level.WARNING),
    "pv_tlb_flush": (WARNING, Level.NOTE),
    "async_pf_vmexit": (WARNING, Level.NOTE),
    "pv_send_ipi": (WARNING, Level.NOTE),
    "poll_control": (WARNING, Level.NOTE),
    "pv_sched_yield": (WARNING, Level.NOTE),
    "async_pf_int": (INCOMPATIBLE, Level.WARNING),
    "msi_ext_dest_id": (INCOMPATIBLE, Level.WARNING),
    "hc_map_gpa_range": (WARNING, Level.NOTE),
    "migration_control": (WARNING, Level.NOTE),
    "clocksource_stable_bit": (HARMLESS, Level.NOTE),
    "hints_realtime": (INCOMPATIBLE, Level.WARNING),
}

GAINS = dict.fromkeys(LOSSES, (HARMLESS, Level.NOTE)) | {
    "async_pf_int": (WARNING, Level.WARNING),
    "migration_control": (WARNING, Level.NOTE),
}


def named(*names: str) -> Leaves:
    """Return leaves with these features."""
    features = [feature_named(name) for name in names]
    return guest(*(sum(one.mask for one in features if one.register == register) for register in ("eax", "edx")))


def lost(name: str, *boot: str, unused: tuple[str, ...] = ()) -> Effect:
    """Return the effect of losing a feature of a kernel that booted with it and with others."""
    [effect] = effects(Difference((feature_named(name),)), named(name, *boot), tuple(map(feature_named, unused)))
    return effect


def test_the_tables_have_every_feature() -> None:
    """In the order of the features, with a sentence and a source in each row."""
    names = [feature.name for feature in FEATURES]
    for table in (LOST, GAINED):
        assert list(table) == names
        for outcome in (outcome for outcomes in table.values() for outcome in outcomes):
            assert outcome.text.endswith(".")
            assert outcome.source


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_what_a_single_bit_does(feature: Feature) -> None:
    """The weight for a move and the level afterwards, of a guest that has everything else."""
    full = guest(EVERY_EAX, feature.mask if feature.register == "edx" else 0)
    less = guest(EVERY_EAX) if feature.register == "edx" else guest(EVERY_EAX & ~feature.mask)
    [loss], [gain] = effects(difference(full, less), full), effects(difference(less, full), less)
    assert (loss.feature, loss.change, loss.weight, loss.level) == (feature, "lost", *LOSSES[feature.name])
    assert (gain.feature, gain.change, gain.weight, gain.level) == (feature, "gained", *GAINS[feature.name])


@pytest.mark.parametrize(
    ("effect", "severity", "level"),
    [
        (lost("steal_time"), Severity.SLOWER, Level.WARNING),
        (lost("steal_time", "pv_tlb_flush"), Severity.CORRUPTS, Level.CRITICAL),
        (lost("steal_time", "pv_tlb_flush", unused=("pv_tlb_flush",)), Severity.SLOWER, Level.WARNING),
        (lost("steal_time", "pv_tlb_flush", unused=("steal_time",)), Severity.HARMLESS, Level.NOTE),
        (lost("pv_tlb_flush"), Severity.HARMLESS, Level.NOTE),
        (lost("pv_unhalt"), Severity.STALLS, Level.WARNING),
        (lost("pv_unhalt", "hints_realtime"), Severity.HARMLESS, Level.NOTE),
        (lost("hints_realtime"), Severity.STALLS, Level.WARNING),
        (lost("hints_realtime", "pv_unhalt"), Severity.STALLS, Level.WARNING),
        (lost("clocksource"), Severity.TIME_DRIFTS, Level.CRITICAL),
        (lost("clocksource", "clocksource2"), Severity.TIME_DRIFTS, Level.WARNING),
        (lost("async_pf"), Severity.STALLS, Level.WARNING),
        (lost("async_pf", unused=("async_pf",)), Severity.HARMLESS, Level.NOTE),
        (lost("eax_bit_30"), Severity.UNKNOWN, Level.WARNING),
    ],
)
def test_what_a_loss_does_depends_on_what_the_kernel_uses(effect: Effect, severity: Severity, level: Level) -> None:
    """The worse outcome takes the other feature; what the kernel is known not to use harms nothing."""
    assert (effect.severity, effect.level) == (severity, level)


WORDS = st.integers(0, 2**32 - 1)


@given(WORDS, WORDS, st.sampled_from(["eax", "edx"]), st.integers(0, 31))
def test_one_outcome_is_to_be_expected(eax: int, edx: int, register: Register, bit: int) -> None:
    """Whatever a kernel booted with, at most one outcome of a lost bit is not out of the ordinary, and one follows."""
    feature = feature_at(register, bit)
    [effect] = effects(Difference((feature,)), guest(eax, edx))
    expected = [one for one in effect.outcomes if one.circumstance is not Circumstance.UNUSUAL]
    assert len(expected) <= 1
    assert effect.outcomes
    assert effect.worst >= effect.severity


@pytest.mark.parametrize(
    ("change", "effect", "begins"),
    [
        ("lost", lost("steal_time", "pv_tlb_flush"), "Take the machine out of service now."),
        ("lost", lost("steal_time"), "Migrate the machine back, or reboot it, not by kexec."),
        ("lost", lost("pv_tlb_flush"), NOTHING),
        ("gained", effects(Difference(gained=(feature_named("async_pf_int"),)), guest(0))[0], "Reboot the machine"),
        ("gained", effects(Difference(gained=(feature_named("steal_time"),)), guest(0))[0], NOTHING),
    ],
)
def test_what_is_to_be_done(change: Change, effect: Effect, begins: str) -> None:
    """It follows from the level; until a reboot no CPU comes online where that would do harm."""
    assert effect.change == change
    assert effect.action.startswith(begins)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Difference(lost=(feature_named("clocksource_stable_bit"),)), Level.NOTE),
        (Difference(gained=(feature_named("async_pf_int"),)), Level.WARNING),
        (Difference(lost=(feature_named("clocksource2"), feature_named("pv_tlb_flush"))), Level.CRITICAL),
        (Difference(identity=True), Level.WARNING),
        (Difference(tsc=TscChange(2_600_000, 2_000_000)), Level.WARNING),
        (Difference(tsc=TscChange(2_600_000, None)), Level.NOTE),
    ],
)
def test_a_difference_is_as_urgent_as_its_worst_part(change: Difference, expected: Level) -> None:
    """Features by their effects; another base and another TSC frequency are warnings, which say what to do."""
    boot = guest(EVERY_EAX & ~feature_named("async_pf_int").mask)
    found = effects(change, boot)
    assert urgency(change, found) is expected
    assert (advice(change, found) == NOTHING) == (expected is Level.NOTE)


def test_what_the_kernel_booted_with_does_no_harm_when_it_comes_back() -> None:
    """A feature that was lost and is gained again has its handlers."""
    [effect] = effects(Difference(gained=(feature_named("async_pf_int"),)), named("async_pf_int"))
    assert (effect.severity, effect.level) == (Severity.HARMLESS, Level.NOTE)
