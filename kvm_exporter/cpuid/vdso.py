"""Finds where this process maps KVM's pvclock page, which the kernel shares with every process for the vDSO.

Source: the kernel's arch/x86/entry/vdso/vma.c and arch/x86/include/asm/vdso/vsyscall.h; proc(5), /proc/pid/maps.
"""

import re
from pathlib import Path

_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ 0 +\[(vvar|vvar_vclock)\]$", re.MULTILINE)

_PAGE_BYTES = 4096

_PAGE_OF = {"vvar_vclock": 0, "vvar": 1}
"""Which page of a mapping holds it: the first one of ``[vvar_vclock]`` from Linux 6.13 on. Before that, the second
one of ``[vvar]``, which later kernels use for something else."""


def pvclock_address(maps: Path = Path("/proc/self/maps")) -> int | None:
    """Return the address of the pvclock page; None if no mapping of the vDSO can have it.

    The page may be missing there: the kernel maps it only if kvm-clock was the clocksource at some time since boot.
    """
    try:
        text = maps.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = {name: (int(start, 16), int(end, 16)) for start, end, name in _MAPPING.findall(text)}
    for name, page in _PAGE_OF.items():
        if name in found:
            start, end = found[name]
            address = start + page * _PAGE_BYTES
            return address if address < end else None
    return None
