"""The files that a guest's kernel shows in /proc and /sys, written under a test's own root."""

import gzip
from collections.abc import Mapping
from pathlib import Path

CLOCKSOURCES = "sys/devices/system/clocksource/clocksource0"
AVAILABLE = f"{CLOCKSOURCES}/available_clocksource"
CURRENT = f"{CLOCKSOURCES}/current_clocksource"
COMMAND_LINE = "proc/cmdline"
STAT = "proc/stat"
INTERRUPTS = "proc/interrupts"
IDLE_DRIVER = "sys/devices/system/cpu/cpuidle/current_driver"
CPU_INFO = "proc/cpuinfo"
SEV_SNP = "sys/devices/system/cpu/sev/vmpl"
POSSIBLE = "sys/devices/system/cpu/possible"
RELEASE = "proc/sys/kernel/osrelease"
CONFIGURATION = "proc/config.gz"

Content = str | bytes | None
"""The content of a file; None if the file does not exist."""

KVM_GUEST: Mapping[str, Content] = {
    AVAILABLE: "kvm-clock tsc hpet acpi_pm \n",
    CURRENT: "kvm-clock\n",
    COMMAND_LINE: "BOOT_IMAGE=/boot/vmlinuz-6.1.0-28-amd64 root=UUID=3f2c ro quiet console=ttyS0,115200 -- nopvspin\n",
    STAT: """\
cpu  60061 0 21786 491484 1013 0 194 46 94 0
cpu0 30020 0 10900 245700 500 0 100 20 47 0
cpu1 30041 0 10886 245784 513 0 94 26 47 0
intr 4518263 0 0 0 0 0 0 0 0 0 0 0
ctxt 9120437
btime 1704067200
""",
    INTERRUPTS: """\
           CPU0       CPU1
  4:         12          0   IO-APIC   4-edge      ttyS0
 24:       1730       2251   PCI-MSI 16385-edge      virtio0-req.0
NMI:          0          0   Non-maskable interrupts
LOC:     218930     225411   Local timer interrupts
HYP:         37         77   Hypervisor callback interrupts
ERR:          0
""",
    IDLE_DRIVER: "haltpoll\n",
    CPU_INFO: """\
processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7B13
flags\t\t: fpu vme de pse tsc msr hypervisor cpuid_fault
bugs\t\t: sysret_ss_attrs

processor\t: 1
flags\t\t: fpu
""",
    POSSIBLE: "0-1\n",
    RELEASE: "6.1.0-28-amd64\n",
    CONFIGURATION: gzip.compress(b"CONFIG_PARAVIRT=y\nCONFIG_PARAVIRT_SPINLOCKS=y\nCONFIG_KVM_GUEST=y\n"),
}
"""The files of a guest that uses the features of KVM; the words after ``--`` are arguments of init."""


def kernel(root: Path, changes: Mapping[str, Content] | None = None) -> Path:
    """Write the files of that guest below a root, with some contents replaced; returns the root."""
    for name, content in {**KVM_GUEST, **(changes or {})}.items():
        if content is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root
