"""KVM itself, through /dev/kvm: what it supports, and virtual machines whose vCPUs have the leaves of our choice.

Knows neither the program that a guest runs nor what leaves mean. Source: the kernel's Documentation/virt/kvm/api.rst.
"""

import ctypes
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from kvm_exporter.cpuid.dump import Rows
from kvm_exporter.cpuid.registers import Registers
from tests.support.guests import kvm_abi as abi
from tests.support.guests.kvm_abi import Request

TSS_ADDRESS = 0x7FFF_0000
"""Three pages that KVM keeps for itself on Intel; away from the guest's memory."""


class Vcpu:
    """One vCPU, new and not yet run."""

    def __init__(self, descriptor: int, run_area: mmap.mmap) -> None:
        self._descriptor = descriptor
        self._run_area = run_area

    def set_cpuid(self, rows: Rows) -> None:
        """Choose what CPUID answers; KVM takes it only before the first run. Raises OSError."""
        indexed = {leaf for leaf, subleaf in rows if subleaf}
        table = bytearray(abi.CPUID2.pack(len(rows)))
        for (leaf, subleaf), registers in rows.items():
            table += abi.CPUID_ENTRY.pack(leaf, subleaf, abi.SIGNIFICANT_INDEX if leaf in indexed else 0, *registers)
        _ioctl(self._descriptor, Request.KVM_SET_CPUID2, table)

    def start_at(self, address: int, *, eax: int, esp: int) -> None:
        """Prepare flat 32-bit protected mode without paging, with these registers. Raises OSError."""
        sregs = bytearray(abi.SREGS_SIZE)
        _ioctl(self._descriptor, Request.KVM_GET_SREGS, sregs)
        code, data = (0x08, 0b1011), (0x10, 0b0011)
        for place, (selector, kind) in enumerate((code, data, data, data, data, data)):
            abi.SEGMENT.pack_into(sregs, place * abi.SEGMENT.size, 0, 0xFFFF_FFFF, selector, kind, 1, 0, 1, 1, 0, 1, 0)
        sregs[abi.SREGS_CR0] |= 1
        _ioctl(self._descriptor, Request.KVM_SET_SREGS, sregs)
        # RFLAGS: bit 1 is always set.
        regs = abi.REGS.pack(eax, 0, 0, 0, 0, 0, esp, 0, *([0] * 8), address, 0b10)
        _ioctl(self._descriptor, Request.KVM_SET_REGS, bytearray(regs))

    def run_until_halt(self) -> None:
        """Let it execute until HLT; the next run goes on behind that. Raises OSError, RuntimeError."""
        _ioctl(self._descriptor, Request.KVM_RUN)
        (reason,) = abi.EXIT_REASON.unpack_from(self._run_area)
        if reason != abi.EXIT_HLT:
            raise RuntimeError(f"KVM_RUN: the vCPU ended with exit reason {reason}, not with HLT")


class VirtualMachine:
    """A machine of vCPUs and memory at address 0, without any device."""

    def __init__(self, descriptor: int, run_area_size: int, memory: mmap.mmap, resources: ExitStack) -> None:
        self.memory = memory
        self._descriptor = descriptor
        self._run_area_size = run_area_size
        self._resources = resources

    def add_vcpu(self, number: int) -> Vcpu:
        """One more vCPU, which goes when the machine goes. Raises OSError."""
        descriptor = _closing(self._resources, _ioctl(self._descriptor, Request.KVM_CREATE_VCPU, number))
        return Vcpu(descriptor, self._resources.enter_context(mmap.mmap(descriptor, self._run_area_size)))


@contextmanager
def virtual_machine(memory_size: int) -> Iterator[VirtualMachine]:
    """A new machine with so many bytes of memory, whole pages; gone at the end. Raises OSError."""
    with ExitStack() as resources:
        memory = resources.enter_context(mmap.mmap(-1, memory_size))
        device = _closing(resources, _open_device())
        machine = _closing(resources, _ioctl(device, Request.KVM_CREATE_VM))
        _ioctl(machine, Request.KVM_SET_TSS_ADDR, TSS_ADDRESS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        region = abi.MEMORY_REGION.pack(0, 0, 0, memory_size, address)
        _ioctl(machine, Request.KVM_SET_USER_MEMORY_REGION, bytearray(region))
        yield VirtualMachine(machine, _ioctl(device, Request.KVM_GET_VCPU_MMAP_SIZE), memory, resources)


def supported_cpuid() -> dict[tuple[int, int], Registers]:
    """What this host's KVM can offer its guests, by leaf and subleaf. Raises OSError."""
    table = bytearray(abi.CPUID2.pack(abi.CPUID_ENTRIES_MAX) + bytes(abi.CPUID_ENTRIES_MAX * abi.CPUID_ENTRY.size))
    with ExitStack() as resources:
        _ioctl(_closing(resources, _open_device()), Request.KVM_GET_SUPPORTED_CPUID, table)
    (count,) = abi.CPUID2.unpack_from(table)
    entries = abi.CPUID_ENTRY.iter_unpack(table[abi.CPUID2.size : abi.CPUID2.size + count * abi.CPUID_ENTRY.size])
    return {(leaf, subleaf): Registers(*words) for leaf, subleaf, _flags, *words in entries}


def _open_device() -> int:
    return os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)


def _closing(resources: ExitStack, descriptor: int) -> int:
    resources.callback(os.close, descriptor)
    return descriptor


def _ioctl(descriptor: int, request: Request, argument: int | bytearray = 0) -> int:
    """Make a call; a buffer is passed by its address, and may be written to. Raises OSError with the request's name."""
    try:
        return fcntl.ioctl(descriptor, request, argument)
    except OSError as error:
        raise OSError(error.errno, f"{request.name}: {error.strerror}") from None
