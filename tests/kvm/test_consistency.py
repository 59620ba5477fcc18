"""kvm_exporter.kvm.consistency: which feature sets contradict themselves, and which offer what Linux does not use."""

import re
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.cpuid.dump import parse_dump
from kvm_exporter.kvm.consistency import RULES, inconsistencies
from kvm_exporter.kvm.features import FEATURES, Feature, features_of
from kvm_exporter.kvm.leaves import Leaves
from lab.readers import guest
from lab.tree import DUMPS
from tests.support.rooms.pages import table

BITS = [feature.bit for feature in FEATURES if feature.register == "eax"]
WORDS = st.integers(0, 2**32 - 1)

APF_INT = "async_pf_int_without_async_pf"
APF = "async_pf_without_async_pf_int"
VMEXIT = "async_pf_vmexit_without_async_pf_int"
STEAL = "preemption_without_steal_time"
HINT = "preemption_beside_hint"
STABLE = "stable_bit_without_clock"
SEV = "migration_control_without_map_gpa_range"


def broken(leaves: Leaves) -> set[str]:
    """Return the names of the rules that the leaves break."""
    return {found.rule.name for found in inconsistencies(leaves)}


def bits(*eax: int, hint: bool = False) -> Leaves:
    """Return a CPU that is offered exactly these bits of EAX, and the hint or not."""
    return guest(sum(1 << bit for bit in eax), int(hint))


ALONE = {4: {APF}, 9: {STEAL}, 10: {VMEXIT}, 13: {STEAL}, 14: {APF_INT}, 17: {SEV}, 24: {STABLE}}
"""What each bit breaks if it is the only one; other bits break nothing."""

TOGETHER: dict[tuple[int, int], set[str]] = {
    (4, 14): set(),
    (10, 14): {APF_INT},
    (5, 9): set(),
    (5, 13): set(),
    (0, 24): set(),
    (3, 24): set(),
    (16, 17): set(),
}
"""Pairs that break other rules than the two bits do alone."""


@pytest.mark.parametrize("pair", list(combinations(BITS, 2)))
def test_pairs_of_bits(pair: tuple[int, int]) -> None:
    """A pair breaks what each bit breaks alone, but for the pairs that belong together."""
    first, second = pair
    assert broken(bits(*pair)) == TOGETHER.get(pair, ALONE.get(first, set()) | ALONE.get(second, set()))


@pytest.mark.parametrize("bit", range(32))
def test_a_bit_alone_and_beside_the_hint(bit: int) -> None:
    """The hint is inconsistent with 7, 9 and 13, and changes nothing else."""
    assert broken(bits(bit)) == ALONE.get(bit, set())
    assert broken(bits(bit, hint=True)) == ALONE.get(bit, set()) | ({HINT} if bit in {7, 9, 13} else set())


@pytest.mark.parametrize(
    ("eax", "edx", "expected"),
    [
        (0x0100_7EFB, 0, set()),
        (0x0100_7AFB, 0, set()),
        (0x0100_FEFB, 0, set()),
        (0x0100_7EFB, 1, {HINT}),
        (0x0100_007B, 0, {APF}),
        (0x0100_0089, 0, set()),
        (0x0100_00FB, 0, {APF}),
        (0x0000_BA82, 0, {STEAL}),
        (0x0100_7EEB, 0, {APF_INT}),
        (0, 0, set()),
    ],
    ids=[
        *("host", "host, nested", "host, split irqchip", "host with the hint", "QEMU's default", "VirtualBox"),
        *("Proxmox's models", "TDX", "host,-kvm-asyncpf", "nothing"),
    ],
)
def test_known_machines(eax: int, edx: int, expected: set[str]) -> None:
    """QEMU's ``-cpu host`` breaks no rule, however it is run; QEMU's default breaks one that is harmless."""
    assert broken(guest(eax, edx)) == expected


DUMPED = {"qemu-default-invtsc": {APF}, "kvm-unassigned-bits": {APF}}


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
def test_dumps(dump: Path) -> None:
    """Of the recorded machines only those with bit 4 and without 14 break a rule."""
    assert broken(sweep(parse_dump(dump.read_bytes()), CpuSelection(), None).common) == DUMPED.get(dump.stem, set())


@given(WORDS, WORDS)
def test_what_is_named_is_so(eax: int, edx: int) -> None:
    """Each broken rule names features that are offered; adding one of its others, or removing the features, ends it."""
    for found in inconsistencies(guest(eax, edx)):
        offered = set(filter(guest(eax, edx).offers, features_of(eax, edx)))
        assert set(found.features) <= offered & set(found.rule.features)
        assert set(found.rule.beside) <= offered
        assert not set(found.rule.without) & offered
        for more in found.rule.without:
            assert found.rule.name not in broken(guest(*with_bit((eax, edx), more)))
        left = (eax, edx)
        for feature in found.features:
            left = with_bit(left, feature, value=0)
        assert found.rule.name not in broken(guest(*left))


def with_bit(words: tuple[int, int], feature: Feature, *, value: int = 1) -> tuple[int, int]:
    """Return EAX and EDX with one feature's bit set to a value."""
    masks = (feature.mask, 0) if feature.register == "eax" else (0, feature.mask)
    eax, edx = (word & ~mask | mask * value for word, mask in zip(words, masks, strict=True))
    return eax, edx


@pytest.mark.parametrize("leaves", [Leaves(hypervisor_bit=False), Leaves(hypervisor_bit=True)])
def test_nothing_is_consistent(leaves: Leaves) -> None:
    """A machine without KVM breaks no rule."""
    assert inconsistencies(leaves) == ()


def test_the_words_name_bits() -> None:
    """Features are named with their positions, in lists as people write them."""
    three = "pv_unhalt (eax bit 7), pv_tlb_flush (eax bit 9) and pv_sched_yield (eax bit 13)"
    assert [found.words for found in inconsistencies(bits(7, 9, 13, 24, hint=True))] == [
        "pv_tlb_flush (eax bit 9) and pv_sched_yield (eax bit 13) without steal_time (eax bit 5)",
        f"{three} beside hints_realtime (edx bit 0)",
        "clocksource_stable_bit (eax bit 24) without clocksource (eax bit 0) or clocksource2 (eax bit 3)",
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_an_action_names_properties_of_the_rules_features(rule: object) -> None:
    """A setting in an action is QEMU's property of a feature of the rule: a name is not mistyped."""
    [found] = [one for one in RULES if one is rule]
    properties = {feature.qemu for feature in (*found.features, *found.without, *found.beside)}
    named = set(re.findall(r"([\w-]+)=o[nf]", found.action))
    assert named <= properties
    assert bool(named) == any(properties)


def test_the_page_has_each_rule() -> None:
    """docs/host-settings.md has what follows from each rule, what to do, and the source."""
    rows = {rule.name: (rule.follows, rule.action, rule.source) for rule in RULES}
    assert table("host-settings.md", "finding") == rows
