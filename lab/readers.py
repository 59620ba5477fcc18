"""Simulated machines in memory: leaves as data, Readers of them, and a Source whose CPUs can fail or change."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

from kvm_exporter.cpuid.registers import BASES, HYPERVISOR_BIT, Reader, Registers
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.clock import PvClock
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Kvm, Leaves, read_leaves
from kvm_exporter.kvm.leaves import SignatureLeaf as Signature
from kvm_exporter.kvm.sample import Sample

Rows = Mapping[int, Registers]
"""The registers at subleaf 0, by leaf."""

BASE = 0x4000_0000
ZEROS = Registers(0, 0, 0, 0)
BARE_METAL = {1: ZEROS}
INTEL_HIGHEST_BASIC_LEAF = Registers(0x1004, 0x12C0, 0x64, 0)
"""Leaf 0x16 of an i5-10600K: frequencies in MHz that look like feature bits and nearly like a signature."""


def leaf_1(*, hypervisor_bit: bool = True) -> Registers:
    """Return a leaf 1 in which only ECX bit 31 can be set."""
    return Registers(0, 0, HYPERVISOR_BIT if hypervisor_bit else 0, 0)


def signature_leaf(signature: bytes, max_leaf: int) -> Registers:
    """Return a leaf 0x40000N00: the highest leaf in EAX, twelve bytes in EBX, ECX and EDX."""
    ebx, ecx, edx = (int.from_bytes(signature[start : start + 4], "little") for start in (0, 4, 8))
    return Registers(max_leaf, ebx, ecx, edx)


def kvm_rows(
    eax: int, edx: int = 0, *, base: int = BASE, max_leaf: int | None = None, timing: Registers | None = None
) -> dict[int, Registers]:
    """Return leaf 1 and KVM's leaves at a base; the default of ``max_leaf`` is the last leaf given."""
    rows = {1: leaf_1(), base + 1: Registers(eax, 0, 0, edx)}
    if timing is not None:
        rows[base + 0x10] = timing
    return rows | {base: signature_leaf(KVM_SIGNATURE, max(rows) if max_leaf is None else max_leaf)}


def reader(rows: Rows) -> Reader:
    """Return a Reader that answers like an AMD CPU: zeros where there is no row."""
    return lambda leaf, _: rows.get(leaf, ZEROS)


def intel_reader(rows: Rows, highest_basic: Registers = INTEL_HIGHEST_BASIC_LEAF) -> Reader:
    """Return a Reader that answers like an Intel CPU: the highest basic leaf where there is no row or no such leaf."""
    return lambda leaf, _: rows.get(leaf, highest_basic) if _is_there(rows, leaf) else highest_basic


def strict_reader(rows: Rows, asked: list[int] | None = None) -> Reader:
    """Return a Reader like an AMD CPU's that fails above the highest leaf; it appends each leaf to ``asked``."""

    def read(leaf: int, subleaf: int) -> Registers:
        assert _is_there(rows, leaf), f"leaf {leaf:#010x} is not to be read here"
        assert subleaf == 0
        if asked is not None:
            asked.append(leaf)
        return rows.get(leaf, ZEROS)

    return read


def _is_there(rows: Rows, leaf: int) -> bool:
    """Return whether a leaf may be read: a basic leaf, a base, or a leaf up to the highest one of its base."""
    base = leaf & ~0xFF
    if leaf < BASE or leaf in BASES:
        return True
    if base not in rows:
        return False
    # Old KVM hosts report 0 and have the feature leaf; from other hypervisors a 0 means nothing.
    is_kvm = rows[base][1:] == signature_leaf(KVM_SIGNATURE, 0)[1:]
    return leaf <= (rows[base].eax or base + is_kvm)


def failing_reader(why: str) -> Reader:
    """Return the Reader of a CPU that can be reached, but not read."""

    def read(leaf: int, subleaf: int) -> Registers:
        del leaf, subleaf
        raise ReadError(why)

    return read


class Machine:
    """A Source of Readers by CPU, which a test may replace between reads; it notes the CPUs that were visited.

    A string in place of a Reader is the reason why the CPU cannot be reached. Unpinned reads use ``home``, or the CPU
    with the lowest number.
    """

    def __init__(
        self, cpus: Mapping[int, Reader | str], *, isolated: Iterable[int] = (), home: Reader | None = None
    ) -> None:
        self.cpus = dict(cpus)
        self.isolated_cpus = frozenset(isolated)
        self.home = home
        #: The machine's pvclock page.
        self.page: bytes | None = None
        self.visits: list[int] = []
        #: Called before each visit with the number of earlier visits.
        self.before_visit: Callable[[int], None] = lambda _: None

    def online(self) -> tuple[int, ...]:
        """Return the CPUs in ascending order."""
        return tuple(sorted(self.cpus))

    def isolated(self) -> frozenset[int]:
        """Return the isolated CPUs."""
        return self.isolated_cpus

    def allowed(self) -> frozenset[int]:
        """Return the CPUs that the process may run on: those of the machine."""
        return frozenset(self.cpus)

    def reading(self) -> AbstractContextManager[None]:
        """Return an empty context: nothing has to be prepared."""
        return nullcontext()

    def anywhere(self, leaf: int, subleaf: int) -> Registers:
        """Read a leaf without pinning the thread."""
        home = self.home or self.cpus[min(self.cpus)]
        assert callable(home)
        return home(leaf, subleaf)

    def pvclock(self) -> bytes | None:
        """Return the pvclock page."""
        return self.page

    def on(self, cpu: int) -> Reader:
        """Return the Reader of a CPU, and note the visit."""
        self.before_visit(len(self.visits))
        self.visits.append(cpu)
        reader_or_reason = self.cpus[cpu]
        if isinstance(reader_or_reason, str):
            raise ReadError(reader_or_reason)
        return reader_or_reason


def guest(eax: int, edx: int = 0, *, base: int = BASE, max_leaf: int | None = None) -> Leaves:
    """Return the leaves of a CPU under KVM, decoded from kvm_rows()."""
    rows = kvm_rows(eax, edx, base=base, max_leaf=max_leaf)
    return read_leaves(reader(rows), [Signature(base, KVM_SIGNATURE, 0)])


def kvm_of(leaves: Leaves) -> Kvm:
    """Return KVM's part of leaves that contain KVM."""
    assert leaves.kvm is not None
    return leaves.kvm


def sample_of(
    sampled: Mapping[int, Leaves],
    *,
    anywhere: Leaves | None = None,
    retained: Mapping[int, Leaves] | None = None,
    skipped: Iterable[int] = (),
    failed: Mapping[int, str] | None = None,
    clock: PvClock | None = None,
) -> Sample:
    """Return a sample of 1 January 2024 that took 0.25 s; the unpinned read is that of the lowest CPU by default."""
    return Sample(
        anywhere=anywhere or sampled[min(sampled)],
        sampled=sampled,
        retained=retained or {},
        skipped=frozenset(skipped),
        failed=failed or {},
        timestamp=1704067200.0,
        boottime=1000.0,
        duration=0.25,
        clock=clock,
    )
