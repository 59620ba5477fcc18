"""Records the hypervisor leaves of all CPUs, or those that this machine's own KVM can offer, as a Dump."""

from kvm_exporter.cpuid.dump import Dump, Rows
from kvm_exporter.cpuid.registers import BASES, HYPERVISOR_BIT, Reader, Registers, Source
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, SignatureLeaf, find_hypervisors, has_hypervisor

_HYPERVISOR_LEAVES = range(BASES.start, BASES.stop)


def record(source: Source) -> tuple[Dump, dict[int, str]]:
    """Return a dump of every CPU that can be read, and the error message of each other CPU by its number.

    The dump has leaves 0 and 1 of each CPU and, if leaf 1 reports a hypervisor, the first base and every leaf of the
    bases that have a signature. Raises ReadError if no CPU can be read.
    """
    cpus: dict[int, dict[tuple[int, int], Registers]] = {}
    failed: dict[int, str] = {}
    with source.reading():
        # If no online CPU can be reached (LXCFS lists others), those that the process may run on are tried.
        for candidates in (source.online(), sorted(source.allowed())):
            for cpu in () if cpus else candidates:
                try:
                    cpus[cpu] = _rows(source.on(cpu))
                except ReadError as error:
                    failed[cpu] = str(error)
    if not cpus:
        raise ReadError("; ".join(f"CPU {cpu}: {why}" for cpu, why in failed.items()))
    return Dump(cpus), failed


def record_host(supported: Rows) -> Dump:
    """Return a host's dump with the same leaves, as KVM reports them to be supported.

    Leaf 1's hypervisor bit is set in it: a VMM may always set the bit, and KVM of older kernels does not report it.
    """
    rows = {row: words for row, words in supported.items() if row[0] in {0, 1} or row[0] in _HYPERVISOR_LEAVES}
    rows[1, 0] = rows[1, 0]._replace(ecx=rows[1, 0].ecx | HYPERVISOR_BIT)
    return Dump({0: rows}, of_host=True)


def _rows(read: Reader) -> dict[tuple[int, int], Registers]:
    leaves = {0, 1}
    if has_hypervisor(read):
        leaves.add(BASES.start)
    for hypervisor in find_hypervisors(read):
        leaves.update(range(hypervisor.base, _last_leaf(hypervisor) + 1))
    return {(leaf, 0): read(leaf, 0) for leaf in sorted(leaves)}


def _last_leaf(hypervisor: SignatureLeaf) -> int:
    """Return the highest leaf to record: that in the signature leaf's EAX, but not beyond the base's own range.

    If EAX is 0, KVM (an old host) still has the feature leaf; of another hypervisor only the signature is recorded.
    """
    highest = hypervisor.max_leaf or hypervisor.base + (hypervisor.signature == KVM_SIGNATURE)
    return max(hypervisor.base, min(highest, hypervisor.base + BASES.step - 1))
