"""Records the leaves of a Source's CPUs as a Dump, for bug reports and test fixtures."""

from kvm_exporter.cpuid.dump import Dump
from kvm_exporter.cpuid.registers import BASES, Reader, Registers, Source
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, SignatureLeaf, find_hypervisors, has_hypervisor


def record(source: Source) -> tuple[Dump, dict[int, str]]:
    """A dump of every CPU that can be read, and why the others cannot.

    Of each CPU: leaves 0 and 1, and where leaf 1 tells of a hypervisor its first base and every leaf of the bases that
    hold a signature. Raises ReadError if no CPU can be read.
    """
    cpus: dict[int, dict[tuple[int, int], Registers]] = {}
    failed: dict[int, str] = {}
    with source.reading():
        for cpu in source.online():
            try:
                cpus[cpu] = _rows(source.on(cpu))
            except ReadError as error:
                failed[cpu] = str(error)
    if not cpus:
        raise ReadError("; ".join(f"CPU {cpu}: {why}" for cpu, why in failed.items()))
    return Dump(cpus), failed


def _rows(read: Reader) -> dict[tuple[int, int], Registers]:
    leaves = {0, 1}
    if has_hypervisor(read):
        leaves.add(BASES.start)
    for hypervisor in find_hypervisors(read):
        leaves.update(range(hypervisor.base, _last_leaf(hypervisor) + 1))
    return {(leaf, 0): read(leaf, 0) for leaf in sorted(leaves)}


def _last_leaf(hypervisor: SignatureLeaf) -> int:
    """The highest leaf to record: never above the one that the signature leaf names, nor in the next base.

    Where it names none, old KVM hosts have the feature leaf all the same, and of others nothing is known.
    """
    highest = hypervisor.max_leaf or hypervisor.base + (hypervisor.signature == KVM_SIGNATURE)
    return max(hypervisor.base, min(highest, hypervisor.base + BASES.step - 1))
