"""kvm_exporter.kvm.drift and fingerprint: when two samples agree, and the fingerprint of a feature set."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.cpuid.registers import BASES
from kvm_exporter.kvm.drift import agree
from kvm_exporter.kvm.leaves import Kvm, Leaves, Timing, fingerprint
from kvm_exporter.kvm.sample import Sample
from lab.readers import guest, sample_of

DEFAULT = guest(0x0100007B)
ALL = guest(0x01007EFB)
NO_KVM = Leaves(hypervisor_bit=True)

WORDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(
    ("kvm", "expected"),
    [
        # Frozen: the rules and dashboards of a fleet compare fingerprints across versions of the exporter.
        (Kvm(0x4000_0000, 0x01007EFB, 0), "a56f971aee6ec7ef"),
        (Kvm(0x4000_0100, 0x0100007B, 1), "671fa1834330d3c4"),
    ],
)
def test_fingerprints_never_change(kvm: Kvm, expected: str) -> None:
    """The same feature set has the same fingerprint in every version."""
    assert fingerprint(kvm) == expected


@given(st.sampled_from(BASES), WORDS, WORDS)
def test_a_fingerprint_is_the_start_of_a_hash_of_24_bytes(base: int, eax: int, edx: int) -> None:
    """The fingerprint is reproducible: SHA-256 of the signature, the base, EAX and EDX in little endian."""
    packed = b"KVMKVMKVM\0\0\0" + b"".join(word.to_bytes(4, "little") for word in (base, eax, edx))
    assert fingerprint(Kvm(base, eax, edx)) == hashlib.sha256(packed).hexdigest()[:16]


def test_what_is_no_offer_is_not_in_the_fingerprint() -> None:
    """The TSC frequency is not part of the fingerprint: a host with another clock has the same feature set."""
    assert fingerprint(Kvm(0x4000_0000, 1, 2, timing=Timing(2_600_000, 1_000_000))) == fingerprint(
        Kvm(0x4000_0000, 1, 2)
    )


@pytest.mark.parametrize(
    "other",
    [
        sample_of({0: ALL, 1: ALL, 2: DEFAULT}),
        sample_of({0: ALL, 1: ALL, 2: DEFAULT}, anywhere=DEFAULT),
        sample_of({0: ALL, 1: ALL, 3: DEFAULT, 4: NO_KVM}),
        sample_of({0: ALL}, failed={1: "held", 2: "held"}),
        sample_of({0: ALL, 1: ALL}, retained={2: NO_KVM}),
        sample_of({0: ALL, 1: ALL}, skipped=[2]),
        sample_of({7: ALL}),
        sample_of({}, anywhere=ALL),
    ],
    ids=["same", "unpinned", "hotplug", "failed", "retained", "skipped", "other CPUs", "only unpinned"],
)
def test_samples_agree(other: Sample) -> None:
    """Samples agree if their common leaves and the leaves of each CPU in both are equal; CPUs may come and go."""
    sample = sample_of({0: ALL, 1: ALL, 2: DEFAULT})
    assert agree(sample, other)
    assert agree(other, sample)


def test_samples_agree_by_what_they_say() -> None:
    """Samples are compared by value: leaves that were read separately are equal."""
    samples = [sample_of({cpu: guest(0x01007EFB) for cpu in range(3)}) for _ in range(2)]
    assert agree(*samples)


@pytest.mark.parametrize(
    "other",
    [
        sample_of({0: DEFAULT, 1: DEFAULT, 2: DEFAULT}),
        sample_of({0: ALL, 1: ALL, 2: ALL}),
        sample_of({0: ALL, 1: ALL, 2: NO_KVM}),
        sample_of({0: ALL, 1: DEFAULT, 2: ALL}),
        sample_of({0: DEFAULT}),
        sample_of({7: NO_KVM}),
        sample_of({}, anywhere=DEFAULT),
    ],
    ids=["all", "one joins", "one leaves KVM", "another differs", "fewer", "other CPUs", "only unpinned"],
)
def test_samples_differ(other: Sample) -> None:
    """A difference on one CPU, or in the common leaves, is enough for samples to disagree."""
    sample = sample_of({0: ALL, 1: ALL, 2: DEFAULT})
    assert not agree(sample, other)
    assert not agree(other, sample)
