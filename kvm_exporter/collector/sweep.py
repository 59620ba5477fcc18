"""Samples the leaves of all CPUs of a Source: selects the CPUs, reads each, and confirms a difference by a second read.

The functions block, and run in the calling thread.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from kvm_exporter.cpuid.registers import Source
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.clock import decode_pvclock
from kvm_exporter.kvm.drift import agree
from kvm_exporter.kvm.leaves import Leaves, SignatureLeaf, find_hypervisors, read_cpu, read_leaves
from kvm_exporter.kvm.sample import Sample

Isolated = Literal["once", "always", "never"]
ISOLATED: tuple[Isolated, ...] = get_args(Isolated)


@dataclass(frozen=True, slots=True)
class CpuSelection:
    """Which CPUs to sample."""

    #: Isolated CPUs: "once" at the start and whenever another CPU's leaves change, "always" or "never".
    isolated: Isolated = "once"
    #: The only CPUs to sample; None for all.
    cpus: frozenset[int] | None = None


def sweep(source: Source, selection: CpuSelection, last: Sample | None) -> Sample:
    """Return a sample of all selected CPUs.

    If it differs from ``last``, or a CPU that was read from the majority, a second sample is taken and returned
    instead: a live migration during a sample makes CPUs differ, but only in that sample. CPUs that cannot be read are
    listed in the sample. Raises ReadError if even the unpinned read fails.
    """
    first = sweep_once(source, selection, last)
    changed = last is not None and not agree(last, first)
    if not changed and first.sampled.keys().isdisjoint(first.divergent):
        return first
    return sweep_once(source, selection, None if changed else last)


def sweep_once(source: Source, selection: CpuSelection, last: Sample | None) -> Sample:
    """Read every selected CPU once and return the sample. Raises ReadError if even the unpinned read fails.

    If the selection reads isolated CPUs once, those that ``last`` knows are retained and not read again.
    """
    timestamp, boottime = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    plan = _plan(source, selection, last)
    with source.reading():
        bases = find_hypervisors(source.anywhere)
        anywhere = read_leaves(source.anywhere, bases)
        sampled, failed = _visit(source, plan.visit, bases)
        replaced: frozenset[int] = frozenset()
        if failed and not sampled and not plan.retained:
            # LXCFS lists other CPUs than the cpuset allows: those that the process may run on are tried instead.
            others = _wanted(selection, source.allowed()) - failed.keys()
            found, unread = _visit(source, tuple(sorted(others)), bases)
            if found:
                sampled, failed, replaced = found, unread, frozenset(failed)
    # Without KVM's leaves, the page is Xen's, or what is left of KVM's.
    page = source.pvclock() if anywhere.kvm is not None else None
    clock = decode_pvclock(page) if page is not None else None
    duration = time.clock_gettime(time.CLOCK_BOOTTIME) - boottime
    reached = bool(sampled) or not failed
    failed |= plan.failed
    skipped = plan.skipped - sampled.keys() - failed.keys()
    return Sample(
        anywhere, sampled, plan.retained, skipped, failed, timestamp, boottime, duration, replaced, clock, reached
    )


def _visit(
    source: Source, cpus: tuple[int, ...], bases: tuple[SignatureLeaf, ...]
) -> tuple[dict[int, Leaves], dict[int, str]]:
    """The leaves of each CPU that can be read, and why the others cannot be."""
    sampled: dict[int, Leaves] = {}
    failed: dict[int, str] = {}
    for cpu in cpus:
        try:
            leaves = read_cpu(source.on(cpu), bases)
        except ReadError as error:
            failed[cpu] = str(error)
        else:
            sampled[cpu] = leaves
            # The next CPU is most likely like this one.
            bases = leaves.hypervisors if leaves.hypervisor_bit else bases
    return sampled, failed


@dataclass(frozen=True, slots=True)
class _Plan:
    visit: tuple[int, ...]
    retained: Mapping[int, Leaves]
    failed: Mapping[int, str]
    skipped: frozenset[int]


def _wanted(selection: CpuSelection, cpus: frozenset[int]) -> frozenset[int]:
    return cpus if selection.cpus is None else cpus & selection.cpus


def _plan(source: Source, selection: CpuSelection, last: Sample | None) -> _Plan:
    online = frozenset(source.online())
    wanted = _wanted(selection, online)
    isolated = source.isolated() & wanted if selection.isolated != "always" else frozenset()
    if selection.isolated == "never":
        wanted -= isolated
    retained, failed = {}, {}
    if selection.isolated == "once" and last is not None:
        retained = {cpu: last.known[cpu] for cpu in isolated if cpu in last.known}
        failed = {cpu: last.failed[cpu] for cpu in isolated if cpu in last.failed}
    visit = wanted - retained.keys() - failed.keys()
    return _Plan(tuple(sorted(visit)), retained, failed, online - wanted)
