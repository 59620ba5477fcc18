"""kvm_exporter.kvm.leaves: where signatures are found, which features KVM offers, and which leaves are never read."""

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.cpuid.registers import BASES, HYPERVISOR_BIT, Reader, Registers
from kvm_exporter.kvm.features import Register, feature_at
from kvm_exporter.kvm.leaves import (
    KVM_SIGNATURE,
    Kvm,
    Leaves,
    SignatureLeaf,
    Timing,
    find_hypervisors,
    has_hypervisor,
    printable,
    read_cpu,
    read_leaves,
)
from lab.readers import (
    BARE_METAL,
    BASE,
    INTEL_HIGHEST_BASIC_LEAF,
    ZEROS,
    Rows,
    intel_reader,
    kvm_rows,
    leaf_1,
    reader,
    signature_leaf,
    strict_reader,
)

WORDS = st.integers(0, 2**32 - 1)

OTHER_HYPERVISORS = [
    b"Microsoft Hv",
    b"VMwareVMware",
    b"XenVMMXenVMM",
    b"TCGTCGTCGTCG",
    b"bhyve bhyve ",
    b"ACRNACRNACRN",
    b"Linux KVM Hv",
    b" lrpepyh  vr",
]

HYPERV_AND_KVM = {
    **kvm_rows(0x01007EFB, base=0x4000_0100),
    BASE: signature_leaf(b"Microsoft Hv", 0x4000_0005),
    BASE + 1: Registers(0x31237648, 0, 0, 0),
}


def decoded(read: Reader) -> Leaves:
    """Scan all bases, and return the leaves of one CPU."""
    return read_leaves(read, find_hypervisors(read))


@pytest.mark.parametrize(
    ("ecx", "expected"), [(0, False), (HYPERVISOR_BIT, True), (0x7FFF_FFFF, False), (0xFFFF_FFFF, True)]
)
def test_leaf_1_tells_of_a_hypervisor(ecx: int, *, expected: bool) -> None:
    """ECX bit 31 of leaf 1 alone decides whether there is a hypervisor."""
    assert has_hypervisor(reader({1: Registers(0, 0, ecx, 0)})) is expected


def test_without_the_hypervisor_bit_no_other_leaf_is_read() -> None:
    """On bare metal only leaf 1 is read, even where a signature seems to exist."""
    asked: list[int] = []
    rows = kvm_rows(0x01007EFB) | {1: leaf_1(hypervisor_bit=False)}
    assert decoded(strict_reader(rows, asked)) == Leaves(hypervisor_bit=False)
    assert set(asked) == {1}


def test_there_are_256_bases() -> None:
    """The bases are 0x40000000 to 0x4000FF00 in steps of 0x100."""
    assert list(BASES) == [0x40000000 + 0x100 * number for number in range(256)]


@pytest.mark.parametrize("base", BASES, ids=hex)
def test_kvm_is_found_at_any_base(base: int) -> None:
    """KVM is found at any base, and its features are read from base + 1."""
    assert decoded(strict_reader(kvm_rows(0x0100007B, 1, base=base))) == Leaves(
        hypervisor_bit=True,
        hypervisors=(SignatureLeaf(base, KVM_SIGNATURE, base + 1),),
        kvm=Kvm(base, 0x0100007B, 1),
    )


@pytest.mark.parametrize("read_as", [reader, intel_reader], ids=["AMD", "Intel"])
@pytest.mark.parametrize(
    ("max_leaf", "has_leaf", "has_timing"),
    [
        (0, True, False),
        (1, False, False),
        (BASE - 1, False, False),
        (BASE, False, False),
        (BASE + 1, True, False),
        (BASE + 0xF, True, False),
        (BASE + 0x10, True, True),
        (BASE + 0x11, True, True),
        (0xFFFF_FFFF, True, True),
    ],
)
def test_the_highest_leaf_says_what_may_be_read(
    max_leaf: int, read_as: Callable[[Rows], Reader], *, has_leaf: bool, has_timing: bool
) -> None:
    """Base + 1 is read if it is not above the highest leaf, base + 0x10 likewise; 0 means base + 1."""
    rows = kvm_rows(0x0100007B, 1, max_leaf=max_leaf, timing=Registers(2_600_000, 1_000_000, 0, 0))
    kvm = decoded(read_as(rows)).kvm
    assert kvm is not None
    assert (kvm.eax, kvm.edx, kvm.has_leaf) == ((0x0100007B, 1, True) if has_leaf else (0, 0, False))
    assert kvm.timing == (Timing(2_600_000, 1_000_000) if has_timing else None)


def test_a_timing_leaf_of_zeros_is_there() -> None:
    """A timing leaf that is not above the highest leaf is returned as it was read, even if it is zero."""
    kvm = decoded(strict_reader(kvm_rows(0, timing=ZEROS))).kvm
    assert kvm is not None
    assert kvm.timing == Timing(0, 0)


SIGNATURES = st.sampled_from([KVM_SIGNATURE, *OTHER_HYPERVISORS, bytes(12), b"NobodyKnows!"])
HIGHEST_LEAVES = st.one_of(
    st.sampled_from([0, 1, 0xFFFF_FFFF]),
    st.integers(BASE - 1, BASE + 0x120),
    st.integers(0x4000_FF00, 0x4001_0010),
    WORDS,
)
LAYOUTS = st.dictionaries(st.sampled_from(BASES), st.tuples(SIGNATURES, HIGHEST_LEAVES), max_size=5)
Layout = Mapping[int, tuple[bytes, int]]


@given(LAYOUTS, st.booleans())
def test_no_leaf_above_the_highest_is_ever_read(layout: Layout, hypervisor_bit: bool) -> None:  # noqa: FBT001
    """Whatever the signatures and highest leaves are, no leaf above a highest leaf is read."""
    rows = {base: signature_leaf(signature, max_leaf) for base, (signature, max_leaf) in layout.items()}
    decoded(strict_reader({1: leaf_1(hypervisor_bit=hypervisor_bit)} | rows))


@given(LAYOUTS, WORDS, WORDS)
def test_an_intel_cpu_is_decoded_as_an_amd_cpu(layout: Layout, eax: int, edx: int) -> None:
    """What an Intel CPU returns above a highest leaf and at unused bases does not appear in the result."""
    rows = {base: signature_leaf(signature, max_leaf) for base, (signature, max_leaf) in layout.items()}
    rows |= {1: leaf_1()} | {base + 1: Registers(eax, 0, 0, edx) for base in layout}
    amd = {base: registers for base, registers in rows.items() if any(registers[1:]) or base not in BASES}
    assert decoded(intel_reader(amd)) == decoded(reader(amd))


@given(WORDS, WORDS, st.sampled_from(BASES))
def test_any_feature_leaf_is_taken_as_it_is(eax: int, edx: int, base: int) -> None:
    """Every bit of EAX and EDX is kept, assigned or not."""
    assert decoded(strict_reader(kvm_rows(eax, edx, base=base))).kvm == Kvm(base, eax, edx)


def test_kvm_beside_hyperv_is_found() -> None:
    """Both signatures are found, and the features are read at KVM's base."""
    assert decoded(strict_reader(HYPERV_AND_KVM)) == Leaves(
        hypervisor_bit=True,
        hypervisors=(
            SignatureLeaf(0x4000_0000, b"Microsoft Hv", 0x4000_0005),
            SignatureLeaf(0x4000_0100, KVM_SIGNATURE, 0x4000_0101),
        ),
        kvm=Kvm(0x4000_0100, 0x01007EFB, 0),
    )


def test_of_two_kvm_signatures_the_first_counts() -> None:
    """KVM is at the lowest base with its signature, as for the guest's kernel."""
    rows = kvm_rows(0x0100007B, base=0x4000_0200) | kvm_rows(0x01007EFB, base=0x4000_0100)
    found = decoded(strict_reader(rows))
    assert [hypervisor.base for hypervisor in found.hypervisors] == [0x4000_0100, 0x4000_0200]
    assert found.kvm == Kvm(0x4000_0100, 0x01007EFB, 0)


@pytest.mark.parametrize("max_leaf", [0, BASE, BASE + 0x10], ids=hex)
@pytest.mark.parametrize("signature", OTHER_HYPERVISORS)
def test_another_hypervisor_is_named_and_not_read(signature: bytes, max_leaf: int) -> None:
    """The signature of another hypervisor is returned, even if its highest leaf is 0; none of its leaves is read."""
    asked: list[int] = []
    rows = {1: leaf_1(), BASE: signature_leaf(signature, max_leaf)}
    assert decoded(strict_reader(rows, asked)) == Leaves(
        hypervisor_bit=True, hypervisors=(SignatureLeaf(BASE, signature, max_leaf),), kvm=None
    )
    assert set(asked) <= {1, *BASES}


@pytest.mark.parametrize("base", [BASE, BASE + 0x100, BASE + 0x200, BASES[-1]], ids=hex)
@pytest.mark.parametrize(
    ("offset", "is_signature"),
    [(-BASE, False), (-1, False), (0, True), (0xFF, True), (0x100, False), (0x101, False), (1 << 31, False)],
)
def test_a_signature_that_nobody_knows_needs_a_highest_leaf_of_its_own(
    base: int, offset: int, *, is_signature: bool
) -> None:
    """An unknown name is a signature only if EAX is a leaf of the same base."""
    max_leaf = base + offset
    rows = {1: leaf_1(), base: signature_leaf(b"NobodyKnows!", max_leaf)}
    expected = (SignatureLeaf(base, b"NobodyKnows!", max_leaf),) if is_signature else ()
    assert decoded(reader(rows)).hypervisors == expected


def test_a_highest_leaf_without_a_signature_is_no_hypervisor() -> None:
    """Twelve zero bytes are no signature."""
    assert decoded(strict_reader({1: leaf_1(), BASE: Registers(BASE + 1, 0, 0, 0)})) == Leaves(hypervisor_bit=True)


@pytest.mark.parametrize(
    "read",
    [
        reader({1: leaf_1()}),
        intel_reader({1: leaf_1()}),
        intel_reader({1: leaf_1()}, Registers(0x0000_0004, 0x2020_2020, 0x2020_4020, 0x2020_4020)),
        intel_reader({1: leaf_1()}, Registers(7, 0, 0x20202040, 0x20202020)),
    ],
    ids=["AMD", "Intel", "Intel '    @   '", "Intel ' @  '"],
)
def test_a_hidden_kvm_is_a_hypervisor_without_a_signature(read: Reader) -> None:
    """Only the hypervisor bit is reported: the highest basic leaf is taken neither for a signature nor for features."""
    assert decoded(read) == Leaves(hypervisor_bit=True)


def test_bare_metal_is_no_hypervisor() -> None:
    """Bare metal has neither the bit nor a signature nor features."""
    assert decoded(intel_reader(BARE_METAL)) == Leaves(hypervisor_bit=False, hypervisors=(), kvm=None)


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        (signature_leaf(b"TCGTCGTCGTCG", BASE + 1), ()),
        (signature_leaf(b"KVMKVMKVM\0\0\1", BASE + 1), ()),
        (ZEROS, ()),
        (INTEL_HIGHEST_BASIC_LEAF, ()),
        (signature_leaf(KVM_SIGNATURE, BASE + 5), (SignatureLeaf(BASE, KVM_SIGNATURE, BASE + 5),)),
    ],
    ids=["another", "nearly", "zeros", "Intel", "same"],
)
def test_a_base_whose_signature_differs_here_is_absent_here(
    here: Registers, expected: tuple[SignatureLeaf, ...]
) -> None:
    """A signature that differs on this CPU is ignored; another highest leaf with the same signature is kept."""
    found = read_leaves(
        strict_reader(kvm_rows(0x0100007B) | {BASE: here}), [SignatureLeaf(BASE, KVM_SIGNATURE, BASE + 1)]
    )
    assert found.hypervisors == expected
    assert found.kvm == (Kvm(BASE, 0x0100007B, 0) if expected else None)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (kvm_rows(0x0100007B), [1, 0x4000_0000, 0x4000_0001]),
        (HYPERV_AND_KVM, [1, 0x4000_0000, 0x4000_0100, 0x4000_0101]),
        (kvm_rows(0x0100007B, base=0x4000_0100), [1, 0x4000_0100, 0x4000_0101, 0x4000_0000]),
        ({1: leaf_1()}, [1, 0x4000_0000]),
        (BARE_METAL, [1]),
    ],
    ids=["KVM", "Hyper-V and KVM", "KVM at another base", "hidden", "bare metal"],
)
def test_a_cpu_that_is_like_the_others_is_not_scanned(rows: Mapping[int, Registers], expected: list[int]) -> None:
    """A CPU with the expected signatures is read with few leaves, because a scan of 256 bases on every CPU is slow."""
    asked: list[int] = []
    leaves = read_cpu(strict_reader(rows, asked), find_hypervisors(reader(rows)))
    assert leaves == decoded(reader(rows))
    assert asked == expected


@pytest.mark.parametrize(
    "here",
    [
        kvm_rows(0x01007EFB, base=0x4000_0500),
        kvm_rows(0x01007EFB, base=0x4000_0500) | {BASE: signature_leaf(b"Microsoft Hv", BASE)},
        HYPERV_AND_KVM,
        {1: leaf_1()},
        {1: leaf_1(), BASE: signature_leaf(b"TCGTCGTCGTCG", BASE + 1)},
        BARE_METAL,
    ],
    ids=["another base", "two bases", "Hyper-V and KVM", "hidden", "TCG", "bare metal"],
)
@pytest.mark.parametrize(
    "elsewhere",
    [
        kvm_rows(0x0100007B),
        kvm_rows(0x0100007B, base=0x4000_0200),
        {1: leaf_1(), BASE: signature_leaf(b"VMwareVMware", 0)},
    ],
    ids=["KVM", "KVM at another base", "VMware"],
)
def test_a_cpu_that_is_unlike_the_others_is_scanned(
    here: Mapping[int, Registers], elsewhere: Mapping[int, Registers]
) -> None:
    """A CPU with other signatures is scanned, so that its result does not depend on the CPU that was scanned first."""
    assert read_cpu(strict_reader(here), find_hypervisors(reader(elsewhere))) == decoded(reader(here))


@given(LAYOUTS, LAYOUTS)
def test_a_survey_is_a_scan_or_finds_what_is_known(here: Layout, elsewhere: Layout) -> None:
    """A survey returns the known signatures or scans; it reads no leaf above a highest one either way."""
    rows, others = (
        {1: leaf_1()} | {base: signature_leaf(*signature) for base, signature in layout.items()}
        for layout in (here, elsewhere)
    )
    known = find_hypervisors(reader(others))
    leaves = read_cpu(strict_reader(rows), known)
    if leaves.hypervisors != known:
        assert leaves == decoded(reader(rows))


@pytest.mark.parametrize(
    ("leaves", "expected"), [(Leaves(hypervisor_bit=True), False), (decoded(reader(kvm_rows(1))), True)]
)
def test_without_kvm_nothing_is_offered(leaves: Leaves, *, expected: bool) -> None:
    """Without KVM no feature is offered."""
    assert leaves.offers(feature_at("eax", 0)) is expected
    assert leaves.offers(feature_at("eax", 1)) is False


@given(WORDS, WORDS, st.sampled_from(["eax", "edx"]), st.integers(0, 31))
def test_what_is_offered_is_a_bit_of_its_own_register(eax: int, edx: int, register: Register, bit: int) -> None:
    """The result depends only on the feature's own bit and register."""
    word = eax if register == "eax" else edx
    assert Kvm(BASE, eax, edx).offers(feature_at(register, bit)) == (word >> bit & 1 == 1)


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (b"KVMKVMKVM\0\0\0", "KVMKVMKVM"),
        (b"bhyve bhyve ", "bhyve bhyve "),
        (b" lrpepyh  vr", " lrpepyh  vr"),
        (b"\0\0Nul\0inside", "\\x00\\x00Nul\\x00inside"),
        (b'\\"\n\x7f\x80\xff\x1f ~', '\\x5c"\\x0a\\x7f\\x80\\xff\\x1f ~'),
        (bytes(12), ""),
    ],
)
def test_a_signature_can_be_printed(signature: bytes, expected: str) -> None:
    r"""Trailing NULs are removed; a backslash and anything but printable ASCII is written as ``\xNN``."""
    assert printable(signature) == expected


@given(st.binary(min_size=12, max_size=12))
def test_a_printed_signature_can_be_told_from_any_other(signature: bytes) -> None:
    """The text is printable ASCII, and the bytes can be restored from it."""
    text = printable(signature)
    assert text.isascii()
    assert text == "" or text.isprintable()
    assert text.encode().decode("unicode_escape").encode("latin-1").ljust(12, b"\0") == signature


def test_a_cpu_that_lacks_the_hypervisor_bit_shows_nothing() -> None:
    """A CPU without the hypervisor bit has no signature and no features, whatever its leaves contain."""
    rows = kvm_rows(0x0100007B) | {1: leaf_1(hypervisor_bit=False)}
    known = [SignatureLeaf(BASE, KVM_SIGNATURE, BASE + 1)]
    assert read_leaves(strict_reader(rows), known) == Leaves(hypervisor_bit=False)


WITH_TIMING = kvm_rows(0x0100007B, timing=Registers(1, 2, 0, 0))


@pytest.mark.parametrize(
    "other",
    [
        kvm_rows(0x0100007B),
        kvm_rows(0x0100007B, max_leaf=0),
        kvm_rows(0x0100007B, timing=Registers(3, 4, 0, 0)),
        WITH_TIMING | {1: Registers(0x306A9, 0x0100_0800, HYPERVISOR_BIT | 1, 1)},
    ],
    ids=["no timing", "highest leaf 0", "another frequency", "leaf 1's other bits"],
)
def test_what_is_no_offer_is_not_compared(other: Mapping[int, Registers]) -> None:
    """The highest leaf, the timing leaf and the other bits of leaf 1 may differ between CPUs that count as equal."""
    assert decoded(reader(other)) == decoded(reader(WITH_TIMING))


def test_no_feature_leaf_is_no_feature() -> None:
    """A CPU without the feature leaf equals one whose feature leaf is 0."""
    assert decoded(reader(kvm_rows(0, max_leaf=BASE))) == decoded(reader(kvm_rows(0)))


@pytest.mark.parametrize(
    "other",
    [
        kvm_rows(0x8100007B),
        kvm_rows(0x0100007B, 1 << 31),
        kvm_rows(0x0100007B, base=0x4000_0100),
        WITH_TIMING | {0x4000_0100: signature_leaf(b"Microsoft Hv", 0)},
        WITH_TIMING | {1: leaf_1(hypervisor_bit=False)},
        WITH_TIMING | {BASE: ZEROS},
    ],
    ids=["EAX", "EDX", "base", "another signature", "hypervisor bit", "no signature"],
)
def test_offers_signatures_and_the_bit_are_compared(other: Mapping[int, Registers]) -> None:
    """CPUs are different if the bits, the base, a signature or the hypervisor bit differ."""
    assert decoded(reader(other)) != decoded(reader(WITH_TIMING))
