"""Machines that exist only in a test: leaves as data, readers over them, and a Source whose CPUs may fail or change."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

from kvm_exporter.cpuid.registers import BASES, HYPERVISOR_BIT, Reader, Registers
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Kvm, Leaves, read_leaves
from kvm_exporter.kvm.leaves import Hypervisor as Signature
from kvm_exporter.kvm.sample import Sample

Rows = Mapping[int, Registers]
"""What CPUID answers at subleaf 0, by leaf."""

BASE = 0x4000_0000
ZEROS = Registers(0, 0, 0, 0)
BARE_METAL = {1: ZEROS}
INTEL_HIGHEST_BASIC_LEAF = Registers(0x1004, 0x12C0, 0x64, 0)
"""Leaf 0x16 of an i5-10600K: frequencies in MHz, which look like feature bits and nearly like a signature."""


def leaf_1(*, hypervisor_bit: bool = True) -> Registers:
    """Leaf 1 with nothing but ECX bit 31 in it."""
    return Registers(0, 0, HYPERVISOR_BIT if hypervisor_bit else 0, 0)


def signature_leaf(signature: bytes, max_leaf: int) -> Registers:
    """A leaf 0x40000N00: the highest leaf in EAX, twelve bytes in EBX, ECX and EDX."""
    ebx, ecx, edx = (int.from_bytes(signature[start : start + 4], "little") for start in (0, 4, 8))
    return Registers(max_leaf, ebx, ecx, edx)


def kvm_rows(
    eax: int, edx: int = 0, *, base: int = BASE, max_leaf: int | None = None, timing: Registers | None = None
) -> dict[int, Registers]:
    """A guest's leaf 1 and KVM's leaves at a base; the highest leaf is the last one given, unless told otherwise."""
    rows = {1: leaf_1(), base + 1: Registers(eax, 0, 0, edx)}
    if timing is not None:
        rows[base + 0x10] = timing
    return rows | {base: signature_leaf(KVM_SIGNATURE, max(rows) if max_leaf is None else max_leaf)}


def reader(rows: Rows) -> Reader:
    """Answers as an AMD CPU does: zeros where there is no row."""
    return lambda leaf, _: rows.get(leaf, ZEROS)


def intel_reader(rows: Rows, highest_basic: Registers = INTEL_HIGHEST_BASIC_LEAF) -> Reader:
    """Answers as an Intel CPU does: the highest basic leaf where there is no row, and above a highest leaf."""
    return lambda leaf, _: rows.get(leaf, highest_basic) if _is_there(rows, leaf) else highest_basic


def strict_reader(rows: Rows, asked: list[int] | None = None) -> Reader:
    """Answers as an AMD CPU does, and fails the test that asks for a leaf above the highest; notes what was asked."""

    def read(leaf: int, subleaf: int) -> Registers:
        assert _is_there(rows, leaf), f"leaf {leaf:#010x} is not to be read here"
        assert subleaf == 0
        if asked is not None:
            asked.append(leaf)
        return rows.get(leaf, ZEROS)

    return read


def _is_there(rows: Rows, leaf: int) -> bool:
    """Whether nothing forbids to read a leaf: it is a basic one, a base, or up to the highest leaf of its base."""
    base = leaf & ~0xFF
    if leaf < BASE or leaf in BASES:
        return True
    if base not in rows:
        return False
    # Old KVM hosts say 0 and have the feature leaf; of other hypervisors 0 tells nothing.
    is_kvm = rows[base][1:] == signature_leaf(KVM_SIGNATURE, 0)[1:]
    return leaf <= (rows[base].eax or base + is_kvm)


def failing_reader(why: str) -> Reader:
    """A CPU that can be reached, but not read."""

    def read(leaf: int, subleaf: int) -> Registers:
        del leaf, subleaf
        raise ReadError(why)

    return read


class Machine:
    """A Source of readers by CPU, which tests may exchange while it is read; it notes which CPUs were visited.

    A string in place of a Reader is the reason why the CPU cannot be reached. Unpinned reads are those of ``home``,
    or of the CPU with the lowest number.
    """

    def __init__(
        self, cpus: Mapping[int, Reader | str], *, isolated: Iterable[int] = (), home: Reader | None = None
    ) -> None:
        self.cpus = dict(cpus)
        self.isolated_cpus = frozenset(isolated)
        self.home = home
        self.visits: list[int] = []
        #: Called before each visit with the number of visits so far.
        self.before_visit: Callable[[int], None] = lambda _: None

    def online(self) -> tuple[int, ...]:
        """The CPUs, ascending."""
        return tuple(sorted(self.cpus))

    def isolated(self) -> frozenset[int]:
        """The CPUs that are better left alone."""
        return self.isolated_cpus

    def reading(self) -> AbstractContextManager[None]:
        """Nothing to prepare."""
        return nullcontext()

    def anywhere(self, leaf: int, subleaf: int) -> Registers:
        """Read where the thread is."""
        home = self.home or self.cpus[min(self.cpus)]
        assert callable(home)
        return home(leaf, subleaf)

    def on(self, cpu: int) -> Reader:
        """The Reader of a CPU."""
        self.before_visit(len(self.visits))
        self.visits.append(cpu)
        reader_or_reason = self.cpus[cpu]
        if isinstance(reader_or_reason, str):
            raise ReadError(reader_or_reason)
        return reader_or_reason


def guest(eax: int, edx: int = 0, *, base: int = BASE, max_leaf: int | None = None) -> Leaves:
    """The leaves of a CPU under KVM, found where kvm_rows() puts them."""
    rows = kvm_rows(eax, edx, base=base, max_leaf=max_leaf)
    return read_leaves(reader(rows), [Signature(base, KVM_SIGNATURE, 0)])


def kvm_of(leaves: Leaves) -> Kvm:
    """What KVM offers there, where a test knows that it is there."""
    assert leaves.kvm is not None
    return leaves.kvm


def sample_of(
    sampled: Mapping[int, Leaves],
    *,
    anywhere: Leaves | None = None,
    retained: Mapping[int, Leaves] | None = None,
    skipped: Iterable[int] = (),
    failed: Mapping[int, str] | None = None,
) -> Sample:
    """A sample of 1 January 2024 that took a quarter of a second; the unpinned read is that of the lowest CPU."""
    return Sample(
        anywhere=anywhere or sampled[min(sampled)],
        sampled=sampled,
        retained=retained or {},
        skipped=frozenset(skipped),
        failed=failed or {},
        timestamp=1704067200.0,
        boottime=1000.0,
        duration=0.25,
    )
