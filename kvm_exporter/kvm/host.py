"""What a host's own KVM can offer to guests, and what it leaves to the virtual machine monitor (VMM), such as QEMU.

KVM states the features that it implements. A VMM offers a selection of them, adds bits 15 to 17 and hints, and chooses
the base and further signatures. Source: the kernel's Documentation/virt/kvm/api.rst, KVM_GET_SUPPORTED_CPUID.
"""

from collections.abc import Iterator
from dataclasses import replace

from kvm_exporter.kvm.features import FEATURES, Feature, features_of
from kvm_exporter.kvm.leaves import Kvm, Leaves

VMM_ONLY = tuple(feature for feature in FEATURES if feature.vmm_only)
"""The features that only a VMM sets, whatever KVM states: bits 15 to 17 of EAX, and the hint, bit 0 of EDX."""

_EAX_OF_VMM = sum(feature.mask for feature in VMM_ONLY if feature.register == "eax")
_EDX_OF_VMM = sum(feature.mask for feature in VMM_ONLY if feature.register == "edx")


def stated(host: Kvm) -> Kvm:
    """Return what a host's KVM states, without the bits that only a VMM sets."""
    return replace(host, eax=host.eax & ~_EAX_OF_VMM, edx=host.edx & ~_EDX_OF_VMM)


def host_features(host: Kvm) -> Iterator[Feature]:
    """Yield the features of EAX that KVM itself can offer, set or not, and the unassigned bits that are set."""
    return (feature for feature in features_of(host.eax, 0) if not feature.vmm_only)


def can_offer(host: Kvm, feature: Feature) -> bool | None:
    """Return whether a host's KVM can offer a feature; None for a bit that only a VMM sets, or may set."""
    if feature.vmm_only:
        return None
    return host.offers(feature) or (False if feature in FEATURES else None)


def is_based_on_tsc(clocksource: str) -> bool:
    """Return whether guests can have a stable kvmclock while this is their host's current clocksource.

    KVM updates kvmclock from one master clock only then. Source: gtod_is_based_on_tsc() of arch/x86/kvm/x86.c.
    """
    return clocksource in {"tsc", "hyperv_clocksource_tsc_page"}


def in_form_of(guest: Leaves, host: Leaves) -> Leaves:
    """Return a guest's leaves with the features of a host's KVM in place of its own.

    What a VMM decides stays the guest's: base, signatures, TSC frequency, and the bits that only a VMM sets. Without
    KVM in the guest's leaves, the host's are returned.
    """
    if guest.kvm is None or host.kvm is None:
        return host
    own = stated(host.kvm)
    eax, edx = own.eax | guest.kvm.eax & _EAX_OF_VMM, own.edx | guest.kvm.edx & _EDX_OF_VMM
    return replace(guest, kvm=replace(guest.kvm, eax=eax, edx=edx))


def at_most(guest: Leaves, host: Leaves) -> Leaves:
    """Return what a guest can find on a host whose VMM offers it nothing that it was not offered before."""
    there = in_form_of(guest, host)
    if guest.kvm is None or there.kvm is None:
        return there
    return replace(there, kvm=replace(there.kvm, eax=there.kvm.eax & guest.kvm.eax, edx=there.kvm.edx & guest.kvm.edx))
