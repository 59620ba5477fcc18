"""Logs changes between observations: features lost and gained, by CPU, and CPUs that can no longer be read.

The MESSAGE_IDs are explained in packaging/systemd/prometheus-kvm-exporter.catalog: journalctl -x shows that text.
"""

import logging
from collections.abc import Iterable, Mapping

from kvm_exporter.collector.boot import BootReference
from kvm_exporter.collector.observer import Observation
from kvm_exporter.cpuid.cpulist import format_cpu_list
from kvm_exporter.kvm.drift import Difference, changes
from kvm_exporter.kvm.leaves import Leaves
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import describe, summary

CHANGE_ID = "c3300e3bfd0e45029fe115d215cafd78"
BOOT_DRIFT_ID = "bcaf12e8d79348e79dfdfb18e8f073cb"

logger = logging.getLogger(__name__)


def announce(before: Observation | None, now: Observation) -> None:
    """Log how an observation differs from the previous one or, without a previous one, from the boot reference.

    Without a difference, nothing is logged.
    """
    _announce_failures(before.sample.failed if before is not None else {}, now.sample)
    if before is not None:
        _announce_changes(before.sample, now.sample)
    elif now.reference is not None:
        _announce_boot_drift(now.reference, now.sample.common)
    if now.sample.replaced and (before is None or before.sample.replaced != now.sample.replaced):
        logger.warning(
            "none of the online CPUs (%s in /sys/devices/system/cpu/online) can be reached; those that the process may "
            "run on are sampled instead (%s)",
            format_cpu_list(now.sample.replaced),
            format_cpu_list(now.sample.sampled),
        )


def _announce_failures(earlier: Mapping[int, str], later: Sample) -> None:
    """Log the CPUs that can no longer be read, once for each reason, and those that can be read again."""
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
    """Log each difference between two samples once, with the CPUs that have it."""
    for change, cpus in changes(earlier, later).items():
        where = f" on CPU {format_cpu_list(cpus)}" if cpus else ""
        before = earlier.sampled[cpus[0]] if cpus else earlier.common
        after = later.sampled[cpus[0]] if cpus else later.common
        logger.log(
            logging.WARNING if change.serious else logging.INFO,
            "the feature set changed%s: %s",
            where,
            describe(change, before, after),
            extra={"fields": _fields(CHANGE_ID, change, before, after) | {"kvm_cpu": _numbers(cpus)}},
        )


def _announce_boot_drift(reference: BootReference, now: Leaves) -> None:
    """Log what has changed since the boot reference was taken, while the exporter was not running."""
    if change := reference.difference(now):
        logger.log(
            logging.WARNING if change.serious else logging.INFO,
            "the feature set has changed %s: %s",
            reference.since,
            describe(change, reference.leaves, now),
            extra={"fields": _fields(BOOT_DRIFT_ID, change, reference.leaves, now)},
        )


def _numbers(cpus: Iterable[int]) -> tuple[str, ...]:
    """Return the values of a journal field that has one value for each CPU."""
    return tuple(map(str, cpus))


def _fields(message_id: str, change: Difference, before: Leaves, after: Leaves) -> dict[str, object]:
    """Return the journal fields of a change. A tuple is a field with several values."""
    lost, gained = (tuple(feature.name for feature in features) for features in (change.lost, change.gained))
    return {
        "message_id": message_id,
        "kvm_feature": lost + gained,
        "kvm_lost": ",".join(lost),
        "kvm_gained": ",".join(gained),
        "kvm_before": summary(before),
        "kvm_after": summary(after),
    }
