"""kvm_exporter.kvm.features: the feature table equals the kernel's documentation, and words are decoded bit by bit."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.kvm.features import FEATURES, Feature, Register, feature_at, feature_named, features_of
from kvm_exporter.kvm.leaves import Kvm

WORDS = st.integers(0, 2**32 - 1)

KERNEL_TABLE = [
    # register, bit, name, QEMU's property, whether only the VMM sets it
    ("eax", 0, "clocksource", "kvmclock", False),
    ("eax", 1, "nop_io_delay", "kvm-nopiodelay", False),
    ("eax", 2, "mmu_op", "kvm-mmu", False),
    ("eax", 3, "clocksource2", "kvmclock", False),
    ("eax", 4, "async_pf", "kvm-asyncpf", False),
    ("eax", 5, "steal_time", "kvm-steal-time", False),
    ("eax", 6, "pv_eoi", "kvm-pv-eoi", False),
    ("eax", 7, "pv_unhalt", "kvm-pv-unhalt", False),
    ("eax", 9, "pv_tlb_flush", "kvm-pv-tlb-flush", False),
    ("eax", 10, "async_pf_vmexit", "kvm-asyncpf-vmexit", False),
    ("eax", 11, "pv_send_ipi", "kvm-pv-ipi", False),
    ("eax", 12, "poll_control", "kvm-poll-control", False),
    ("eax", 13, "pv_sched_yield", "kvm-pv-sched-yield", False),
    ("eax", 14, "async_pf_int", "kvm-asyncpf-int", False),
    ("eax", 15, "msi_ext_dest_id", "kvm-msi-ext-dest-id", True),
    ("eax", 16, "hc_map_gpa_range", "", True),
    ("eax", 17, "migration_control", "", True),
    ("eax", 24, "clocksource_stable_bit", "kvmclock-stable-bit", False),
    ("edx", 0, "hints_realtime", "kvm-hint-dedicated", True),
]
"""KVM_FEATURE_* and KVM_HINTS_* of the kernel's Documentation/virt/kvm/x86/cpuid.rst; QEMU's target/i386/cpu.c."""

ASSIGNED = {(register, bit) for register, bit, *_ in KERNEL_TABLE}
UNASSIGNED = [(register, bit) for register in ("eax", "edx") for bit in range(32) if (register, bit) not in ASSIGNED]


def test_the_table_is_the_kernels() -> None:
    """The table has every bit of the kernel's documentation under its name, and no other bit."""
    table = [(feature.register, feature.bit, feature.name, feature.qemu, feature.vmm_only) for feature in FEATURES]
    assert table == KERNEL_TABLE


def test_the_table_is_in_order_and_each_bit_in_it_once() -> None:
    """Rows are sorted by register, then by bit, and no place occurs twice."""
    places = [(feature.register, feature.bit) for feature in FEATURES]
    assert places == sorted(set(places))


def test_each_name_is_there_once() -> None:
    """Each name stands for one bit, because it is a label value that rules select."""
    names = [feature.name for feature in FEATURES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_row_holds_what_labels_and_tables_can_show(feature: Feature) -> None:
    """Names are lower case words and differ from those of unassigned bits; bits fit 32 bits; meanings are not empty."""
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", feature.name)
    assert not re.fullmatch(r"e[ad]x_bit_[0-9]+", feature.name)
    assert feature.bit in range(32)
    assert feature.meaning.isprintable()
    assert feature.meaning != ""


@pytest.mark.parametrize(("register", "bit"), UNASSIGNED)
def test_an_unassigned_bit_is_named_by_its_place(register: Register, bit: int) -> None:
    """The name of an unassigned bit is its register and number, even if patches outside the kernel assign it."""
    assert feature_at(register, bit).name == f"{register}_bit_{bit}"
    assert feature_at(register, bit)[:2] == (register, bit)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_an_assigned_bit_is_found_at_its_place(feature: Feature) -> None:
    """feature_at() returns the table's own row for an assigned bit."""
    assert feature_at(feature.register, feature.bit) is feature


def test_words_of_zeros_show_every_assigned_bit() -> None:
    """Assigned features are listed even if no bit is set."""
    assert tuple(features_of(0, 0)) == FEATURES


def test_bit_31_of_either_word_is_looked_at() -> None:
    """Bit 31 of each word is decoded."""
    shown = [(feature.register, feature.bit, feature.name) for feature in features_of(1 << 31, 1 << 31)]
    assert ("eax", 31, "eax_bit_31") in shown
    assert shown[-1] == ("edx", 31, "edx_bit_31")


@given(WORDS, WORDS)
def test_any_words_decode_to_exactly_their_bits(eax: int, edx: int) -> None:
    """The offered features make up the words; the list has those and the assigned ones, in order."""
    kvm = Kvm(0x4000_0000, eax, edx)
    shown = list(features_of(eax, edx))
    offered = {"eax": 0, "edx": 0}
    for feature in shown:
        offered[feature.register] |= feature.mask * kvm.offers(feature)
    assert offered == {"eax": eax, "edx": edx}
    assert all(kvm.offers(feature) or feature in FEATURES for feature in shown)
    assert [(f.register, f.bit) for f in shown] == sorted({(f.register, f.bit) for f in shown})
    assert set(FEATURES) <= set(shown)


@given(WORDS, WORDS, st.sampled_from(["eax", "edx"]), st.integers(0, 31))
def test_a_bit_is_looked_up_in_its_own_register(eax: int, edx: int, register: Register, bit: int) -> None:
    """A feature is looked up in its own register and not in the other."""
    word = eax if register == "eax" else edx
    assert Kvm(0x4000_0000, eax, edx).offers(feature_at(register, bit)) == bool(word & 2**bit)


@pytest.mark.parametrize("register", ["eax", "edx"])
@pytest.mark.parametrize("bit", range(32))
def test_a_bit_has_its_place_as_a_name_for_ever(register: Register, bit: int) -> None:
    """eax_bit_18 remains valid in a baseline when the kernel names that bit; both names mean the same bit."""
    feature = feature_at(register, bit)
    assert feature_named(f"{register}_bit_{bit}") == feature
    assert feature_named(feature.name) == feature


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("steal_tme", "did you mean steal_time?"),
        ("pv_eoy", "did you mean pv_eoi?"),
        ("STEAL_TIME", "known features: clocksource, nop_io_delay, mmu_op, "),
        ("eax_bit_32", "eax_bit_N and edx_bit_N"),
        ("eax_bit_03", "eax_bit_N and edx_bit_N"),
        ("ebx_bit_0", "eax_bit_N and edx_bit_N"),
        ("eax_bit_1\n", "eax_bit_N and edx_bit_N"),
        ("", "eax_bit_N and edx_bit_N"),
    ],
)
def test_a_name_that_nothing_has_is_refused(name: str, hint: str) -> None:
    """The error suggests the name that was probably meant, or lists all names."""
    with pytest.raises(ValueError, match=re.escape(hint)) as caught:
        feature_named(name)
    assert str(caught.value).startswith(f"unknown feature {name!r}; ")
