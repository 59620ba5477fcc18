"""What the log says of changes: what was gained and lost, on which CPUs, and which CPUs cannot be read; with fields.

The MESSAGE_IDs are explained in packaging/systemd/prometheus-kvm-exporter.catalog: journalctl -x shows that text.
"""

import logging
from collections.abc import Iterable, Mapping

from kvm_exporter.collector.observer import Observation
from kvm_exporter.cpuid.cpulist import format_cpu_list
from kvm_exporter.kvm.drift import Difference, changes, difference
from kvm_exporter.kvm.leaves import Leaves
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import describe, summary

CHANGE_ID = "c3300e3bfd0e45029fe115d215cafd78"
BOOT_DRIFT_ID = "bcaf12e8d79348e79dfdfb18e8f073cb"

logger = logging.getLogger(__name__)


def announce(before: Observation | None, now: Observation) -> None:
    """Say what is new in an observation, if anything is: against the one before, or at the start against the boot."""
    _announce_failures(before.sample.failed if before is not None else {}, now.sample)
    if before is not None:
        _announce_changes(before.sample, now.sample)
    elif now.reference is not None:
        _announce_boot_drift(now.reference.leaves, now.sample.common)


def _announce_failures(earlier: Mapping[int, str], later: Sample) -> None:
    """Say which CPUs cannot be read any more, once for each reason, and which can be read again."""
    unread: dict[str, list[int]] = {}
    for cpu, why in sorted(later.failed.items()):
        if cpu not in earlier:
            unread.setdefault(why, []).append(cpu)
    for why, cpus in unread.items():
        fields = {"kvm_cpu": _numbers(cpus)}
        logger.warning("CPU %s cannot be read: %s", format_cpu_list(cpus), why, extra={"fields": fields})
    if back := sorted(earlier.keys() & later.known.keys()):
        fields = {"kvm_cpu": _numbers(back)}
        logger.info("CPU %s can be read again", format_cpu_list(back), extra={"fields": fields})


def _announce_changes(earlier: Sample, later: Sample) -> None:
    """Say what changed between two samples, once for each way in which some CPUs did."""
    for change, cpus in changes(earlier, later).items():
        where = f" on CPU {format_cpu_list(cpus)}" if cpus else ""
        before = earlier.sampled[cpus[0]] if cpus else earlier.common
        after = later.sampled[cpus[0]] if cpus else later.common
        logger.log(
            logging.WARNING if change.serious else logging.INFO,
            "what the hypervisor offers changed%s: %s",
            where,
            describe(change, before, after),
            extra={"fields": _fields(CHANGE_ID, change, before, after) | {"kvm_cpu": _numbers(cpus)}},
        )


def _announce_boot_drift(before: Leaves, now: Leaves) -> None:
    """Say what has changed since this boot was first sampled, while nobody looked."""
    if change := difference(before, now):
        logger.log(
            logging.WARNING if change.serious else logging.INFO,
            "what the hypervisor offers is not what it was when this boot was first sampled: %s",
            describe(change, before, now),
            extra={"fields": _fields(BOOT_DRIFT_ID, change, before, now)},
        )


def _numbers(cpus: Iterable[int]) -> tuple[str, ...]:
    """A field with a value for each CPU."""
    return tuple(map(str, cpus))


def _fields(message_id: str, change: Difference, before: Leaves, after: Leaves) -> dict[str, object]:
    """Names may repeat in the journal: a field with several values is a tuple."""
    lost, gained = (tuple(feature.name for feature in features) for features in (change.lost, change.gained))
    return {
        "message_id": message_id,
        "kvm_feature": lost + gained,
        "kvm_lost": ",".join(lost),
        "kvm_gained": ",".join(gained),
        "kvm_before": summary(before),
        "kvm_after": summary(after),
    }
