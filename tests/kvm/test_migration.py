"""kvm_exporter.kvm.migration: which differences let a running guest move, and which do not, with the reason of each."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.cpuid.registers import BASES, Registers
from kvm_exporter.kvm.drift import difference
from kvm_exporter.kvm.effects import Weight, effects
from kvm_exporter.kvm.features import FEATURES, Feature
from kvm_exporter.kvm.leaves import Leaves, Timing
from kvm_exporter.kvm.migration import SCOPE, SCOPE_OF_HOST, Comparison, Reason, Side, compare
from kvm_exporter.kvm.processor import Processor, read_processor
from lab.readers import guest, kvm_of, sample_of

ALL = 0x01007EFB
HERE = guest(ALL)
WORDS = st.integers(0, 2**32 - 1)
INTEL, AMD = Processor("GenuineIntel", 6), Processor("AuthenticAMD", 0x19)


def side(*leaves: Leaves, processor: Processor | None = None) -> Side:
    """Return a machine with these CPUs."""
    return Side(sample_of(dict(enumerate(leaves))), processor or Processor())


def clocked(khz: int | None) -> Leaves:
    """Return a CPU with a timing leaf; None: without one."""
    timing = Timing(khz, 1_000_000) if khz is not None else None
    return replace(HERE, kvm=replace(kvm_of(HERE), timing=timing))


def told(comparison: Comparison) -> list[tuple[Weight, str]]:
    """Return the weight and the text of each reason."""
    return [(reason.weight, reason.what) for reason in comparison.reasons]


@pytest.mark.parametrize("leaves", [HERE, clocked(2_600_000), guest(0), guest(ALL, 1, base=0x4000_0100)])
def test_a_machine_is_compatible_with_itself(leaves: Leaves) -> None:
    """Equal machines have no reason, and the verdict names its scope."""
    found = compare(side(leaves, processor=INTEL), side(leaves, processor=INTEL))
    assert (found.compatible, found.reasons, found.verdict) == (True, (), f"compatible, {SCOPE}")


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_each_feature_is_named_with_what_it_does(feature: Feature) -> None:
    """The weight of a lost or gained feature, and its reason, are those of its effect."""
    words = {"eax": 0xFFFF_FFFF, "edx": 0xFFFF_FFFF}
    lost = guest(**words), guest(**{**words, feature.register: 0xFFFF_FFFF & ~feature.mask})
    gained = guest(0), guest(**{"eax": 0, feature.register: feature.mask})
    for change, (source, target) in (("lost", lost), ("gained", gained)):
        found = compare(side(source), side(target))
        [effect] = effects(difference(source, target), source)
        assert found.reasons == (
            Reason(
                effect.weight, f"{change}: {feature.name} ({feature.register} bit {feature.bit})", effect.text, effect
            ),
        )
        assert found.compatible == (effect.weight < Weight.INCOMPATIBLE)
        assert found.warnings == (effect.weight is Weight.WARNING)


@given(WORDS, WORDS, WORDS, WORDS)
def test_a_guest_may_move_where_its_words_are_a_subset(eax: int, edx: int, more_eax: int, more_edx: int) -> None:
    """At the same base, whatever is compatible by the subset rule of Cloud Hypervisor is compatible here.

    The exception is a guest that is offered async_pf_int without async_pf: it loses page faults at any move.
    """
    contradictory = bool(eax & 1 << 14) and not eax & 1 << 4
    found = compare(side(guest(eax, edx)), side(guest(eax | more_eax, edx | more_edx)))
    assert found.compatible is not contradictory


@given(WORDS, WORDS, st.sampled_from(BASES[1:]))
def test_no_feature_set_makes_up_for_another_base(eax: int, edx: int, base: int) -> None:
    """Another base is incompatible whatever is offered there: a running kernel does not scan for the leaves again."""
    assert not compare(side(guest(eax, edx)), side(guest(0xFFFF_FFFF, 0xFFFF_FFFF, base=base))).compatible


PAGE_FAULTS = (Weight.INCOMPATIBLE, "contradictory: async_pf_int (eax bit 14) without async_pf (eax bit 4)")
MAP_GPA_RANGE = "contradictory: migration_control (eax bit 17) without hc_map_gpa_range (eax bit 16)"


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (guest(1 << 14), guest(1 << 14), [PAGE_FAULTS]),
        (guest(1 << 14), guest(1 << 14 | 1 << 4), [PAGE_FAULTS, (Weight.HARMLESS, "gained: async_pf (eax bit 4)")]),
        (guest(1 << 14), guest(0), [(Weight.INCOMPATIBLE, "lost: async_pf_int (eax bit 14)")]),
        (guest(1 << 17), guest(1 << 17), [(Weight.WARNING, MAP_GPA_RANGE)]),
        # Unused by the kernel that booted with it: no contradiction.
        (guest(1 << 4), guest(1 << 4), []),
    ],
    ids=["14 without 4", "4 comes", "14 is lost", "17 without 16", "4 without 14"],
)
def test_what_the_source_contradicts_itself_in_harms_any_move(
    source: Leaves, target: Leaves, expected: list[object]
) -> None:
    """Also one to an equal machine; a lost feature has its own reason, and the contradiction is not repeated."""
    assert told(compare(side(source), side(target))) == expected


def test_every_cpu_of_the_target_counts() -> None:
    """A difference that only some CPUs of the target have names them."""
    found = compare(side(HERE), side(HERE, HERE, guest(ALL & ~(1 << 5)), guest(ALL & ~(1 << 5))))
    assert told(found) == [(Weight.INCOMPATIBLE, "lost: steal_time (eax bit 5) on CPU 2-3")]


NO_STEAL = guest(ALL & ~(1 << 5))
UNEVEN = (Weight.WARNING, "source: CPU 0 differs: has steal_time (eax bit 5)")
OF_HALF = (Weight.INCOMPATIBLE, "contradictory: async_pf_int (eax bit 14) without async_pf (eax bit 4)")


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((HERE, NO_STEAL, NO_STEAL), side(NO_STEAL), [(Weight.INCOMPATIBLE, "lost: steal_time (eax bit 5)"), UNEVEN]),
        ((HERE, NO_STEAL, NO_STEAL), side(HERE), [UNEVEN, (Weight.HARMLESS, "gained: steal_time (eax bit 5)")]),
        (
            (HERE, NO_STEAL, NO_STEAL),
            Side(sample_of({0: NO_STEAL}), of_host=True),
            [(Weight.INCOMPATIBLE, "lost: steal_time (eax bit 5)"), UNEVEN],
        ),
        ((HERE, NO_STEAL, NO_STEAL), Side(sample_of({0: HERE}), of_host=True), [UNEVEN]),
        (
            (guest(0x4000), guest(0x4010), guest(0x4010)),
            side(guest(0x4010)),
            [
                OF_HALF,
                (Weight.WARNING, "source: CPU 0 differs: lacks async_pf (eax bit 4)"),
                (Weight.HARMLESS, "gained: async_pf (eax bit 4)"),
            ],
        ),
    ],
    ids=["lost by one CPU", "gained by the others", "lost on a host", "a host has all", "one CPU contradicts itself"],
)
def test_every_cpu_of_the_source_counts(
    source: tuple[Leaves, ...], target: Side, expected: list[tuple[Weight, str]]
) -> None:
    """Not only the leaves of most CPUs: the kernel may use what the first alone was offered."""
    assert told(compare(side(*source), target)) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (2_599_997, 2_600_000, []),
        (2_599_997, 3_100_000, [(Weight.INCOMPATIBLE, "TSC 3100.000 MHz instead of 2599.997 MHz (+192309 ppm)")]),
        (2_600_000, 2_000_000, [(Weight.INCOMPATIBLE, "TSC 2000.000 MHz instead of 2600.000 MHz (-230769 ppm)")]),
        (2_599_997, None, [(Weight.WARNING, "TSC frequency no longer reported by KVM (2599.997 MHz before)")]),
        (None, 2_599_997, []),
        (None, None, []),
    ],
    ids=["1 or 2 kHz", "faster", "slower", "the leaf is gone", "a new leaf", "no leaf"],
)
def test_the_tsc_frequency_is_compared(before: int | None, after: int | None, expected: list[object]) -> None:
    """More than 250 ppm is incompatible; a frequency that the target does not report is a warning."""
    found = compare(side(clocked(before)), side(clocked(after)))
    assert told(found) == expected
    assert ("tsc frequency" in found.unknown) == (None in {before, after})


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (INTEL, AMD, [(Weight.INCOMPATIBLE, "CPU vendor: AuthenticAMD instead of GenuineIntel")]),
        (AMD, replace(AMD, family=0x17), [(Weight.WARNING, "CPU family: 0x17 instead of 0x19")]),
        (INTEL, INTEL, []),
        (INTEL, Processor(), []),
        (INTEL, Processor("GenuineIntel"), []),
        (Processor(), AMD, []),
    ],
)
def test_the_processor_is_compared(source: Processor, target: Processor, expected: list[object]) -> None:
    """Another vendor is incompatible, another family a warning; what a dump lacks is not compared, which is said."""
    found = compare(side(HERE, processor=source), side(HERE, processor=target))
    assert told(found) == expected
    assert ("cpu vendor" in found.unknown) == (None in {source.vendor, target.vendor})
    assert ("cpu family" in found.unknown) == (None in {source.family, target.family})


@pytest.mark.parametrize(
    "target",
    [guest(ALL, base=0x4000_0100), Leaves(hypervisor_bit=False), Leaves(hypervisor_bit=True)],
    ids=["moved", "gone", "hidden"],
)
def test_another_base_is_incompatible(target: Leaves) -> None:
    """KVM at another base, hidden or gone is incompatible, whatever is offered there."""
    found = compare(side(HERE), side(target))
    assert not found.compatible
    assert found.reasons[0].what.startswith("hypervisor: ")


def test_the_worst_comes_first() -> None:
    """Reasons are sorted by weight, and in the order of bits within it."""
    weights = [reason.weight for reason in compare(side(guest(0x22)), side(guest(0x4010))).reasons]
    assert weights == [Weight.INCOMPATIBLE, Weight.WARNING, Weight.HARMLESS, Weight.HARMLESS]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({}, Processor()),
        ({(0, 0): Registers(0x16, 0x756E6547, 0x6C65746E, 0x49656E69)}, Processor("GenuineIntel")),
        ({(0, 0): Registers(0x10, 0x68747541, 0x444D4163, 0x69746E65)}, Processor("AuthenticAMD")),
        ({(0, 0): Registers(0, 0x6D31_335B, 0x0000_000A, 0x5C1B_5801)}, Processor(r"[31m\x01X\x1b\x5c\x0a")),
        ({(1, 0): Registers(0x00A0_0F11, 0, 0, 0)}, Processor(None, 0x19)),
        ({(1, 0): Registers(0x00B0_0F21, 0, 0, 0)}, Processor(None, 0x1A)),
        ({(1, 0): Registers(0x000A_0655, 0, 0, 0)}, Processor(None, 6)),
        ({(1, 0): Registers(0x0FFA_0655, 0, 0, 0)}, Processor(None, 6)),
        ({(1, 0): Registers(0xF0A0_0F11, 0, 0, 0)}, Processor(None, 0x19)),
        ({(1, 0): Registers(0, 0, 1 << 31, 0)}, Processor()),
    ],
    ids=[
        *("nothing", "Intel", "AMD", "what a terminal obeys", "family 19h", "family 1Ah", "family 6"),
        *("an extended family that does not count", "reserved bits", "leaf 1 of a test"),
    ],
)
def test_a_processor_is_named_by_leaves_0_and_1(rows: dict[tuple[int, int], Registers], expected: Processor) -> None:
    """The vendor is EBX, EDX, ECX of leaf 0, the family base and extended family in EAX of leaf 1."""
    assert read_processor(rows) == expected


HOST = Side(sample_of({0: HERE}), AMD, of_host=True)
VMM_BITS = 0x0003_8000
LOST = (Weight.INCOMPATIBLE, "lost: steal_time (eax bit 5)")


@pytest.mark.parametrize(
    ("source", "target", "reasons"),
    [
        (side(HERE), HOST, []),
        (side(guest(ALL | VMM_BITS, 1)), HOST, []),
        (side(guest(ALL, base=0x4000_0100)), HOST, []),
        (side(clocked(2_600_000)), HOST, []),
        (side(guest(0x0100_007B)), HOST, []),
        (side(HERE, processor=Processor("AuthenticAMD", 0x17)), HOST, []),
        (side(HERE), replace(HOST, sample=sample_of({0: guest(ALL & ~(1 << 5))})), [LOST]),
        (side(guest(ALL | 1 << 30)), HOST, [(Weight.INCOMPATIBLE, "lost: eax_bit_30 (eax bit 30)")]),
        (
            side(HERE, processor=INTEL),
            HOST,
            [(Weight.INCOMPATIBLE, "CPU vendor: AuthenticAMD instead of GenuineIntel")],
        ),
        (HOST, side(guest(ALL & ~(1 << 5) | VMM_BITS, 1, base=0x4000_0100)), [LOST]),
        (HOST, side(HERE, guest(ALL & ~(1 << 5)), HERE), [(LOST[0], f"{LOST[1]} on CPU 1")]),
        (HOST, side(guest(ALL | 1 << 30)), [(Weight.WARNING, "gained: eax_bit_30 (eax bit 30)")]),
        (HOST, HOST, []),
        (HOST, replace(HOST, sample=sample_of({0: guest(ALL & ~(1 << 5))})), [LOST]),
        (replace(HOST, sample=sample_of({0: guest(ALL & ~(1 << 5))})), HOST, []),
    ],
)
def test_a_host_is_compared_by_what_its_kvm_states(
    source: Side, target: Side, reasons: list[tuple[Weight, str]]
) -> None:
    """What a VMM decides is neither lost nor gained, but named as not compared; the words are those of the dumps."""
    found = compare(source, target)
    assert told(found) == reasons
    assert (found.source, found.target) == (source, target)
    assert {"cpu family", "base and signatures", "tsc frequency", "msi_ext_dest_id", "hints_realtime"} <= set(
        found.unknown
    )
    assert ("gained features" in found.unknown) is target.of_host
    assert found.verdict.endswith(SCOPE_OF_HOST if found.compatible else SCOPE)


def test_a_guest_of_a_host_misses_everything_where_kvm_is_gone() -> None:
    """That the target has no KVM at all is no decision of the host's VMM."""
    found = compare(HOST, side(Leaves(hypervisor_bit=True)))
    assert not found.compatible
    assert found.reasons[0].what == "hypervisor: a hypervisor without a signature instead of KVMKVMKVM at 0x40000000"
