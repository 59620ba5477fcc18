"""What is served and dumped is what other programs read on this machine: Debian's cpuid, and the kernel's driver."""

import os
import re
import struct
import subprocess
from collections import Counter
from collections.abc import Callable

import pytest

from kvm_exporter.cpuid.dump import format_dump, parse_dump
from kvm_exporter.cpuid.registers import Registers
from lab.exporter import exporter
from lab.proc import scrape_until
from lab.tree import HOST_DUMPS
from tests.cpuid.test_machine import online
from tests.support.tools import missing, program

BASES = (0x4000_0000, 0x4000_0100)
"""Where hypervisors that tests run on put KVM's signature."""

KVM = tuple(int.from_bytes(word, "little") for word in (b"KVMK", b"VMKV", b"M\0\0\0"))

ROW = re.compile(
    r"0x([0-9a-f]{8}) 0x00: eax=0x([0-9a-f]{8}) ebx=0x([0-9a-f]{8}) ecx=0x([0-9a-f]{8}) edx=0x([0-9a-f]{8})"
)


def instruction(leaf: int) -> dict[int, Registers]:
    """A leaf on every CPU, as Debian's cpuid reads it with the instruction."""
    command = [program("cpuid"), "-i", "-r", "-l", hex(leaf)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[int, Registers] = {}
    for block in output.split("CPU ")[1:]:
        number, _, rows = block.partition(":")
        row = ROW.search(rows)
        assert row is not None, block
        assert int(row[1], 16) == leaf
        found[int(number)] = Registers(*(int(word, 16) for word in row.groups()[1:]))
    return found


def device(leaf: int) -> dict[int, Registers]:
    """A leaf on every CPU, as the kernel's cpuid driver reads it: cpuid(4)."""
    found: dict[int, Registers] = {}
    for cpu in online():
        try:
            descriptor = os.open(f"/dev/cpu/{cpu}/cpuid", os.O_RDONLY)
        except OSError:
            missing("/dev/cpu/N/cpuid, as root (the kernel's cpuid module)")
            raise
        try:
            found[cpu] = Registers(*struct.unpack("<4I", os.pread(descriptor, 16, leaf)))
        finally:
            os.close(descriptor)
    return found


def offers(read: Callable[[int], dict[int, Registers]]) -> dict[int, tuple[int, Registers]]:
    """KVM's feature leaf with its number on every CPU that shows KVM's signature."""
    found: dict[int, tuple[int, Registers]] = {}
    for base in BASES:
        signed = [cpu for cpu, registers in read(base).items() if registers[1:] == KVM]
        feature_leaf = read(base + 1)
        found.update({cpu: (base + 1, feature_leaf[cpu]) for cpu in signed if cpu not in found})
    return found


@pytest.mark.parametrize("read", [instruction, device])
def test_every_cpu_is_served_as_others_read_it(read: Callable[[int], dict[int, Registers]]) -> None:
    """The registers of every online CPU, and how many CPUs offer each bit, equal what independent programs find."""
    offered = offers(read)
    with exporter("--sample.max-age=1us") as running:
        scrape = scrape_until(running.scrape, lambda found: found.value("kvm_cpus", state="sampled") == len(online()))
    assert scrape.values("kvm_cpu_register", "cpu", "leaf", "register") == {
        (str(cpu), f"{leaf:#010x}", register): getattr(registers, register)
        for cpu, (leaf, registers) in offered.items()
        for register in ("eax", "edx")
    }
    cpus_by_bit = Counter(
        (register, str(bit))
        for _, registers in offered.values()
        for register in ("eax", "edx")
        for bit in range(32)
        if getattr(registers, register) >> bit & 1
    )
    served = scrape.values("kvm_feature_offered_cpus", "register", "bit")
    assert {place: cpus for place, cpus in served.items() if cpus} == cpus_by_bit
    assert scrape.value("kvm_present") == bool(offered)


@pytest.mark.parametrize("flags", [["-r"], ["-1", "-r"]], ids=" ".join)
def test_the_output_of_cpuid_is_written_as_it_was_read(flags: list[str]) -> None:
    """Byte for byte, whatever machine this is."""
    output = subprocess.run([program("cpuid"), *flags], check=True, capture_output=True).stdout
    assert format_dump(parse_dump(output)).encode() == output


def test_a_dump_of_a_host_is_one_to_other_programs() -> None:
    """Debian's cpuid reads it, and ignores that the header names a host."""
    [path] = HOST_DUMPS
    decoded = subprocess.run([program("cpuid"), "-f", path], capture_output=True, text=True, check=True)
    assert decoded.stderr == ""
    assert 'hypervisor_id (0x40000000) = "KVMKVMKVM' in decoded.stdout
    assert re.search(r"steal clock supported += true", decoded.stdout)
