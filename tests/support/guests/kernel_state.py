"""Prints as JSON what a guest's kernel has enabled: KVM's MSRs of each online CPU, and variables of the kernel.

Root runs it in the guest, with the module msr. The variables are read from /proc/kcore at the addresses of
/proc/kallsyms. Source of the MSRs: the kernel's Documentation/virt/kvm/x86/msr.rst.
"""

import json
import os
import struct
import sys
from pathlib import Path

MSRS = range(0x4B564D00, 0x4B564D08)

PV_OPS_BYTES = 1024
"""More than ``pv_ops`` has."""

PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
"""Type, flags, offset, virtual and physical address, size in the file, size in memory, alignment."""


def main() -> None:
    """Print it."""
    address = addresses("pv_ops", "kvm_io_delay", "valid_flags")
    pointers = struct.unpack(f"<{PV_OPS_BYTES // 8}Q", memory(address["pv_ops"], PV_OPS_BYTES))
    state = {
        "msrs": {
            path.parent.name: {msr: read_msr(path, msr) for msr in MSRS} for path in Path("/dev/cpu").glob("*/msr")
        },
        "io_delay": address["kvm_io_delay"] in pointers,
        "stable_bit": bool(memory(address["valid_flags"], 1)[0] & 1),
    }
    sys.stdout.write(json.dumps(state))


def read_msr(path: Path, msr: int) -> int:
    """Return an MSR of the CPU with this device."""
    with path.open("rb", buffering=0) as file:
        return int.from_bytes(os.pread(file.fileno(), 8, msr), "little")


def addresses(*names: str) -> dict[str, int]:
    """Return the addresses of the kernel's symbols."""
    lines = (line.split() for line in Path("/proc/kallsyms").read_text(encoding="ascii").splitlines())
    return {name: int(address, 16) for address, _, name, *_ in lines if name in names}


def memory(address: int, size: int) -> bytes:
    """Return so many bytes of the kernel's memory, by the ELF file /proc/kcore."""
    with Path("/proc/kcore").open("rb", buffering=0) as core:
        header = core.read(64)
        first, count = struct.unpack_from("<Q", header, 32)[0], struct.unpack_from("<H", header, 56)[0]
        core.seek(first)
        for segment in PROGRAM_HEADER.iter_unpack(core.read(count * PROGRAM_HEADER.size)):
            _, _, offset, start, _, _, length, _ = segment
            if start <= address < start + length:
                core.seek(offset + address - start)
                return core.read(size)
    raise LookupError(f"no segment of /proc/kcore has {address:#x}")


if __name__ == "__main__":
    main()
