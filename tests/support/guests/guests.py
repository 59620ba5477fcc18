"""A small guest on the real KVM as a Source: its vCPUs have the leaves of a dump, and read them by the instruction."""

import mmap
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from kvm_exporter.cpuid.dump import Rows
from kvm_exporter.cpuid.registers import Reader, Registers
from tests.support.guests.kvm import Vcpu, virtual_machine
from tests.support.tools import program

PAGE = 4096

LEAF_AND_SUBLEAF = struct.Struct("<2I")
"""The beginning of struct request in guest.c; the four registers follow."""

REGISTERS = struct.Struct("<4I")

COMPILER_FLAGS = (
    *("-m32", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-mno-sse"),
    *("-fno-pie", "-fno-asynchronous-unwind-tables", "-fcf-protection=none"),
    *("-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0,--oformat=binary,--build-id=none"),
)
"""C becomes bare instructions for address 0: no start-up code, no tables, no ELF around them."""


@dataclass(frozen=True, slots=True)
class Guest:
    """The vCPUs of a running guest, each with its Reader. A vCPU runs when it is read, in the thread that reads."""

    vcpus: Mapping[int, Reader]

    def online(self) -> tuple[int, ...]:
        """The numbers of the vCPUs."""
        return tuple(self.vcpus)

    def isolated(self) -> frozenset[int]:
        """None."""
        return frozenset()

    def pvclock(self) -> None:
        """Return None: it has no pvclock page."""

    def allowed(self) -> frozenset[int]:
        """Return the CPUs that the process may run on: those that are online."""
        return frozenset(self.online())

    def reading(self) -> AbstractContextManager[None]:
        """Nothing to prepare."""
        return nullcontext()

    def anywhere(self, leaf: int, subleaf: int) -> Registers:
        """Read on the vCPU with the lowest number."""
        return self.vcpus[min(self.vcpus)](leaf, subleaf)

    def on(self, cpu: int) -> Reader:
        """The Reader of a vCPU."""
        return self.vcpus[cpu]


@contextmanager
def guest(cpus: Mapping[int, Rows]) -> Iterator[Guest]:
    """A guest with a vCPU for each CPU of a dump, by the same numbers. Raises OSError that names KVM's ioctl."""
    instructions = _instructions()
    with virtual_machine(memory_size=PAGE * (1 + len(cpus))) as machine:
        machine.memory[: len(instructions)] = instructions
        readers: dict[int, Reader] = {}
        for page, cpu in enumerate(sorted(cpus), start=1):
            vcpu, request = machine.add_vcpu(cpu), page * PAGE
            vcpu.set_cpuid(cpus[cpu])
            vcpu.start_at(0, eax=request, esp=request + PAGE)
            readers[cpu] = partial(_read, machine.memory, vcpu, request)
        yield Guest(readers)


def _read(memory: mmap.mmap, vcpu: Vcpu, request: int, leaf: int, subleaf: int) -> Registers:
    LEAF_AND_SUBLEAF.pack_into(memory, request, leaf, subleaf)
    vcpu.run_until_halt()
    return Registers(*REGISTERS.unpack_from(memory, request + LEAF_AND_SUBLEAF.size))


@cache
def _instructions() -> bytes:
    """guest.c, compiled and linked."""
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "guest")
        subprocess.run([program("gcc"), *COMPILER_FLAGS, "-o", binary, Path(__file__).with_name("guest.c")], check=True)
        return binary.read_bytes()
