"""kvm_exporter.kvm.host: what a host's KVM states, and what of it a guest can find there."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.kvm.features import FEATURES, feature_at
from kvm_exporter.kvm.host import at_most, can_offer, host_features, in_form_of, is_based_on_tsc, stated
from kvm_exporter.kvm.leaves import Kvm, Leaves, Timing, fingerprint
from lab.readers import BASE, guest, kvm_of

WORDS = st.integers(0, 2**32 - 1)

VMM_EAX, VMM_EDX = 0x0003_8000, 1
"""Bits 15 to 17 of EAX, and bit 0 of EDX."""


def test_what_only_a_vmm_sets_is_marked() -> None:
    """Exactly EAX bits 15 to 17 and EDX bit 0 are marked as set by the VMM only."""
    marked = {(feature.register, feature.bit) for feature in FEATURES if feature.vmm_only}
    assert marked == {("eax", 15), ("eax", 16), ("eax", 17), ("edx", 0)}


@given(WORDS, WORDS)
def test_a_host_speaks_for_what_kvm_itself_may_offer(eax: int, edx: int) -> None:
    """A host's features are the bits that KVM itself sets: EAX without 15 to 17, and unassigned ones only if set."""
    places = [(feature.register, feature.bit) for feature in host_features(Kvm(BASE, eax, edx))]
    assigned = {feature.bit for feature in FEATURES if feature.register == "eax" and not feature.vmm_only}
    unassigned = set(range(32)) - {feature.bit for feature in FEATURES if feature.register == "eax"}
    assert places == [("eax", bit) for bit in sorted(assigned | {bit for bit in unassigned if eax >> bit & 1})]


@given(WORDS, WORDS)
def test_what_is_stated_lacks_what_only_a_vmm_sets(eax: int, edx: int) -> None:
    """The fingerprint does not depend on those bits; whether they, and unassigned bits, can be offered is unknown."""
    host = Kvm(BASE, eax, edx)
    assert stated(host) == Kvm(BASE, eax & ~VMM_EAX, edx & ~VMM_EDX)
    for register in ("eax", "edx"):
        for bit in range(32):
            feature = feature_at(register, bit)
            is_set = bool((eax if register == "eax" else edx) >> bit & 1)
            by_vmm = feature.vmm_only or (feature not in FEATURES and not is_set)
            assert can_offer(host, feature) is (None if by_vmm else is_set)


def test_the_fingerprint_is_that_of_a_guest_that_is_offered_all_of_it() -> None:
    """The vector of docs and design: KVM at 0x40000000 with EAX 0x01007efb and EDX 0."""
    assert fingerprint(stated(Kvm(BASE, 0x0100_7EFB | VMM_EAX, VMM_EDX))) == "a56f971aee6ec7ef"


@pytest.mark.parametrize(
    ("clocksource", "stable"),
    [
        ("tsc", True),
        ("hyperv_clocksource_tsc_page", True),
        ("hyperv_clocksource_msr", False),
        ("kvm-clock", False),
        ("hpet", False),
        ("acpi_pm", False),
    ],
)
def test_guests_need_a_host_on_the_tsc(clocksource: str, stable: bool) -> None:  # noqa: FBT001
    """As gtod_is_based_on_tsc() in the kernel decides."""
    assert is_based_on_tsc(clocksource) is stable


@given(WORDS, WORDS, WORDS, WORDS)
def test_a_guest_finds_what_it_had_and_the_host_can_offer(eax: int, edx: int, host_eax: int, host_edx: int) -> None:
    """Bits that only a VMM sets, base, signatures and TSC frequency stay the guest's; nothing is gained."""
    here = guest(eax, edx, base=0x4000_0100)
    here = replace(here, kvm=replace(kvm_of(here), timing=Timing(2_600_000, 1_000_000)))
    host = guest(host_eax, host_edx)
    full, most = in_form_of(here, host), at_most(here, host)
    assert (full.hypervisors, most.hypervisors) == (here.hypervisors, here.hypervisors)
    assert (full.tsc_khz, most.tsc_khz) == (2_600_000, 2_600_000)
    assert kvm_of(full) == Kvm(0x4000_0100, host_eax & ~VMM_EAX | eax & VMM_EAX, host_edx & ~VMM_EDX | edx & VMM_EDX)
    assert kvm_of(most) == Kvm(0x4000_0100, eax & (host_eax | VMM_EAX), edx & (host_edx | VMM_EDX))


def test_without_kvm_in_the_guest_nothing_is_assumed() -> None:
    """A host's leaves stay its own, so that a comparison finds them."""
    nothing, host = Leaves(hypervisor_bit=True), guest(0x0100_7EFB)
    assert in_form_of(nothing, host) is at_most(nothing, host) is host
