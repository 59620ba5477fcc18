"""The pvclock page of this process: where it is mapped, and that reading any address neither faults nor waits."""

import ctypes
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvm_exporter.cpuid.machine import Machine, read_pvclock
from kvm_exporter.cpuid.topology import Topology
from kvm_exporter.cpuid.vdso import pvclock_address
from kvm_exporter.kvm.clock import decode_pvclock
from lab.pvclock import pvclock_page
from tests.support.rooms.unprivileged import unprivileged

PAGE = mmap.PAGESIZE

OTHERS = "7ffffb0f4000-7ffffb0f6000 r--p 00000000 08:01 1835      /usr/bin/[vvar]\n"
LINUX_6_18 = f"""\
7fcd285ac000-7fcd285b0000 r--p 00000000 00:00 0                          [vvar]
7fcd285b0000-7fcd285b2000 r--p 00000000 00:00 0                          [vvar_vclock]
7fcd285b2000-7fcd285b4000 r-xp 00000000 00:00 0                          [vdso]
{OTHERS}"""
LINUX_6_1 = f"""\
7fffb25d2000-7fffb25d6000 r--p 00000000 00:00 0                          [vvar]
7fffb25d6000-7fffb25d8000 r-xp 00000000 00:00 0                          [vdso]
{OTHERS}"""
ONE_PAGE = OTHERS + "7fffb25d2000-7fffb25d3000 r--p 00000000 00:00 0                          [vvar]\n"


@pytest.mark.parametrize(
    ("maps", "address"),
    [
        (LINUX_6_18, 0x7FCD285B0000),
        (LINUX_6_1, 0x7FFFB25D3000),
        (ONE_PAGE, None),
        (OTHERS, None),
        ("", None),
        ("\udcff-\n[vvar]\n-0 [vvar]\n", None),
    ],
    ids=["Linux 6.18", "Linux 6.1", "one page", "vdso=0", "empty", "damaged"],
)
def test_which_page_of_which_mapping_it_is(maps: str, address: int | None, tmp_path: Path) -> None:
    """It is the first page of [vvar_vclock], or else the second of [vvar]; a file of such a name is neither."""
    path = tmp_path / "maps"
    path.write_text(maps, errors="surrogateescape")
    assert pvclock_address(path) == address


def test_without_the_list_of_mappings(tmp_path: Path) -> None:
    """A process that may not read the list has no page."""
    assert pvclock_address(tmp_path / "maps") is None


def test_the_page_of_this_machine() -> None:
    """The page is there exactly if kvm-clock is a clocksource; Linux has calibrated its TSC by the same page."""
    sources = Path("/sys/devices/system/clocksource/clocksource0/available_clocksource").read_text()
    page = Machine(Topology()).pvclock()
    assert (page is not None) == ("kvm-clock" in sources.split())
    assert page is None or decode_pvclock(page) is not None


def test_nobody_may_read_it() -> None:
    """Without root's privileges the page is there as with them."""
    expected = Machine(Topology()).pvclock() is not None
    with unprivileged():
        assert (Machine(Topology()).pvclock() is not None) == expected


@contextmanager
def mapped(pages: int) -> Iterator[tuple[mmap.mmap, int]]:
    """Map pages for a block; yield the memory and its address."""
    memory = mmap.mmap(-1, pages * PAGE)
    hold = ctypes.c_char.from_buffer(memory)
    try:
        yield memory, ctypes.addressof(hold)
    finally:
        del hold
        memory.close()


@pytest.mark.parametrize("offset", [0, 1, PAGE - 32, PAGE - 16, PAGE])
def test_memory_is_copied(offset: int) -> None:
    """The 32 bytes are those at the address, also across the boundary of two pages."""
    with mapped(2) as (memory, address):
        memory[offset : offset + 32] = pvclock_page()
        assert read_pvclock(address + offset) == pvclock_page()


libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


@pytest.mark.parametrize("offset", [PAGE - 31, PAGE - 4, PAGE - 1, PAGE, 2 * PAGE - 32])
def test_a_page_that_must_not_be_read(offset: int) -> None:
    """Bytes of a page without permission are missing, whether all of them or the last."""
    with mapped(2) as (memory, address):
        memory[:] = bytes(2 * PAGE)
        assert libc.mprotect(address + PAGE, PAGE, 0) == 0
        assert read_pvclock(address) is not None
        assert read_pvclock(address + offset) is None
        assert libc.mprotect(address + PAGE, PAGE, mmap.PROT_READ | mmap.PROT_WRITE) == 0


@pytest.mark.parametrize(
    "address",
    [0, 1, PAGE, 2**47 - PAGE, 2**47 - 16, 2**47, 0xFFFF_8000_0000_0000, 0xFFFF_FFFF_FF60_0000, 2**64 - 32, 2**64 - 1],
)
def test_addresses_without_memory(address: int) -> None:
    """The first page, those of the kernel, the vsyscall page and the end of the address space are missing."""
    assert read_pvclock(address) is None


def test_a_file_that_is_shorter_than_its_mapping(tmp_path: Path) -> None:
    """A page beyond the end of a file raises SIGBUS where a program reads it, as the vDSO's absent page does."""
    path = tmp_path / "file"
    path.write_bytes(bytes(PAGE))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), PAGE) as memory:
        hold = ctypes.c_char.from_buffer(memory)
        os.truncate(path, 0)
        assert read_pvclock(ctypes.addressof(hold)) is None
        del hold


def test_a_version_that_is_odd_is_no_page() -> None:
    """An odd version says that the host is writing: after a few attempts the page is unknown."""
    with mapped(1) as (memory, address):
        memory[:32] = pvclock_page(version=3)
        assert read_pvclock(address) is None


WRITER = """
import mmap, sys
memory = mmap.mmap(int(sys.argv[1]), mmap.PAGESIZE)
words = memoryview(memory).cast("I")
version = 0
print("writing", flush=True)
while True:
    version = (version + 2) & 0xFFFFFFFF
    words[0] = version | 1
    words[1] = words[6] = version
    words[0] = version
"""
"""Writes like a host: an odd version, the values, the next even version. The values are the version again."""


def test_a_version_that_moves() -> None:
    """Of a page that another process rewrites all the time, a copy is whole or refused; no attempt hangs."""
    descriptor = os.memfd_create("pvclock")
    os.ftruncate(descriptor, PAGE)
    with mmap.mmap(descriptor, PAGE) as memory:
        hold = ctypes.c_char.from_buffer(memory)
        command = [sys.executable, "-c", WRITER, str(descriptor)]
        with subprocess.Popen(command, pass_fds=[descriptor], stdout=subprocess.PIPE) as writer:
            try:
                assert writer.stdout is not None
                assert writer.stdout.readline() == b"writing\n"
                copies = [read_pvclock(ctypes.addressof(hold)) for _ in range(5_000)]
            finally:
                writer.kill()
        del hold
    os.close(descriptor)
    whole = [memoryview(copy).cast("I") for copy in copies if copy is not None]
    assert all(words[0] == words[1] == words[6] and not words[0] % 2 for words in whole)
    sys.stdout.write(
        f" {len(whole)} of {len(copies)} copies are whole, of {len({words[0] for words in whole})} versions: "
    )


def test_nothing_is_left_behind() -> None:
    """Neither a copy nor a refusal leaves a descriptor open, also in several threads at once."""
    before = sorted(Path("/proc/self/fd").iterdir())
    with mapped(1) as (memory, address):
        memory[:32] = pvclock_page()
        readers = [threading.Thread(target=lambda: [read_pvclock(address), read_pvclock(0)]) for _ in range(20)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_without_a_descriptor_to_spare() -> None:
    """A process that cannot open a pipe has no page; it goes on."""
    program = """
import resource
from kvm_exporter.cpuid.machine import read_pvclock
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
assert read_pvclock(id(object())) is None
"""
    subprocess.run([sys.executable, "-c", program], check=True)
