"""Which setting of the host offers or withholds a feature: QEMU's property, libvirt's element, and other causes.

Sources: QEMU's docs/system/i386/kvm-pv.rst and target/i386/kvm/kvm.c (kvm_arch_get_supported_cpuid); of libvirt 9.0 and
11.3 docs/formatdomain.rst, and src/qemu/qemu_command.c (qemuBuildCpuCommandLine) for what becomes of each element. The
cpu_map of libvirt has no bit of leaf 0x40000001, so a <feature> of <cpu> cannot name one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kvm_exporter.kvm.features import Feature


@dataclass(frozen=True, slots=True)
class HostSetting:
    """The setting that offers a feature to a guest, or withholds it."""

    #: What is added to QEMU's ``-cpu MODEL,``, such as ``kvm-steal-time=on``; None where QEMU has no property.
    qemu: str | None
    #: The element of the domain from which libvirt makes QEMU's property; None where libvirt has none.
    libvirt: str | None
    #: Why the feature can be missing in spite of the setting; empty for what withholds it.
    causes: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield the setting in words, and the causes if there are any."""
        if self.qemu is None:
            yield "host setting: QEMU has no property for it"
            return
        libvirt = self.libvirt or "has no element for it, use <qemu:commandline>"
        yield f"host setting: QEMU {self.qemu}; libvirt {libvirt}"
        if self.causes:
            yield f"other causes: {'; '.join(self.causes)}"


class _Element(NamedTuple):
    """libvirt's element for one property of QEMU; None for a state that libvirt does not pass on."""

    on: str | None = None
    off: str | None = None


_ELEMENTS = {
    "kvmclock": _Element(
        "<clock><timer name='kvmclock' present='yes'/></clock>",
        "<clock><timer name='kvmclock' present='no'/></clock>",
    ),
    "kvm-pv-eoi": _Element("<features><apic eoi='on'/></features>", "<features><apic eoi='off'/></features>"),
    "kvm-pv-unhalt": _Element(
        "<features><pvspinlock state='on'/></features>", "<features><pvspinlock state='off'/></features>"
    ),
    # libvirt passes on only one state of each of these; for the hint the other is QEMU's default.
    "kvm-hint-dedicated": _Element(
        "<features><kvm><hint-dedicated state='on'/></kvm></features>",
        "<features><kvm><hint-dedicated state='off'/></kvm></features>",
    ),
    "kvm-poll-control": _Element(on="<features><kvm><poll-control state='on'/></kvm></features>"),
    "kvm-pv-ipi": _Element(off="<features><kvm><pv-ipi state='off'/></kvm></features>"),
}
"""libvirt's elements, by QEMU's property."""

_CAUSES = {
    "mmu_op": ("a KVM without paravirtual MMU, such as that of Linux 7.2",),
    # sched_info_on() in __do_cpuid_func() of the kernel's arch/x86/kvm/cpuid.c.
    "steal_time": ("a host kernel without CONFIG_SCHED_INFO",),
    # kvm_hlt_in_guest() in the same file, and kvm_irqchip_in_kernel() in QEMU's kvm_arch_get_supported_cpuid().
    "pv_unhalt": ("QEMU's -overcommit cpu-pm=on", "QEMU's -machine kernel-irqchip=off"),
    "async_pf_vmexit": ("QEMU 7.2, which has no such property",),
    "pv_send_ipi": ("libvirt's <features><kvm><pv-ipi state='off'/></kvm></features>",),
    "msi_ext_dest_id": ("an interrupt controller that is not split by QEMU's -machine kernel-irqchip=split",),
}
"""Why a feature can be missing although its property is on, by feature."""

_TDX = frozenset(
    (
        *("nop_io_delay", "pv_unhalt", "pv_tlb_flush", "pv_send_ipi"),
        *("poll_control", "pv_sched_yield", "msi_ext_dest_id"),
    )
)
"""What QEMU offers to TDX guests: TDX_SUPPORTED_KVM_FEATURES of its target/i386/kvm/tdx.c."""

HIDDEN = "host setting, if KVM is hidden: QEMU kvm=on; libvirt <features><kvm><hidden state='off'/></kvm></features>"
"""What to set where a guest of KVM does not find KVM's signature."""


def host_setting(feature: Feature, *, offered: bool) -> HostSetting:
    """Return what offers a feature (``offered``), or what withholds it."""
    if not feature.qemu:
        return HostSetting(None, None)
    element = _ELEMENTS.get(feature.qemu, _Element())
    if not offered:
        return HostSetting(f"{feature.qemu}=off", element.off)
    causes = _CAUSES.get(feature.name, ())
    if feature.register == "eax" and feature.name not in _TDX:
        causes = (*causes, "a TDX guest")
    return HostSetting(f"{feature.qemu}=on", element.on, causes)
