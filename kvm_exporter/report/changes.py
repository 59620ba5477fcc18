"""Logs changes between observations: features lost and gained, by CPU, and CPUs that can no longer be read.

Each change is one line, whose fields say what it rests on and since when it is known.

The MESSAGE_IDs are explained in packaging/systemd/prometheus-kvm-exporter.catalog: journalctl -x shows that text.
"""

import logging
from collections.abc import Collection, Iterable, Mapping

from kvm_exporter.collector.boot import BootReference
from kvm_exporter.collector.observer import Observation
from kvm_exporter.cpuid.cpulist import format_cpu_list
from kvm_exporter.kvm.drift import Difference
from kvm_exporter.kvm.effects import Effect, Level, advice, urgency
from kvm_exporter.kvm.features import Feature
from kvm_exporter.kvm.leaves import Leaves
from kvm_exporter.kvm.outcomes import Severity
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import describe, divergences, duration_words, feature_list, moment, summary
from kvm_exporter.report.effects import severity_words
from kvm_exporter.report.kinds import FREQUENCY, LEAVES, USED_NOT_OFFERED

CHANGE_ID = "c3300e3bfd0e45029fe115d215cafd78"
BOOT_DRIFT_ID = "bcaf12e8d79348e79dfdfb18e8f073cb"
USED_ID = "d2ef4646fc494767acb955df8556b5f5"

LOG_LEVELS = {Level.NOTE: logging.INFO, Level.WARNING: logging.WARNING, Level.CRITICAL: logging.ERROR}

logger = logging.getLogger(__name__)


def announce(before: Observation | None, now: Observation) -> None:
    """Log how an observation differs from the previous one or, without a previous one, from the boot reference.

    Without a difference, nothing is logged.
    """
    _announce_failures(before.sample.failed if before is not None else {}, now.sample)
    if before is not None:
        _announce_changes(before.sample, now)
        _announce_new_cpus(before.sample, now.sample)
    elif now.reference is not None:
        _announce_boot_drift(now.reference, now)
    _announce_use(before.used_not_offered if before is not None else (), now)
    if now.sample.replaced and (before is None or before.sample.replaced != now.sample.replaced):
        logger.warning(
            "CPU %s of /sys/devices/system/cpu/online cannot be read; sampling CPU %s instead, which the process may "
            "run on",
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


def _announce_changes(earlier: Sample, observation: Observation) -> None:
    """Log each difference between two samples once, with the CPUs that have it."""
    than, later = f"the sample of {moment(earlier.timestamp)}", observation.sample
    for change, cpus in observation.changes.items():
        where = f" on CPU {format_cpu_list(cpus)}" if cpus else ""
        before = earlier.sampled[cpus[0]] if cpus else earlier.common
        after = later.sampled[cpus[0]] if cpus else later.common
        found = observation.effects_of(change, before)
        logger.log(
            LOG_LEVELS[urgency(change, found)],
            "the feature set changed%s: %s",
            where,
            describe(change, before, after),
            extra={
                "fields": _fields(CHANGE_ID, change, found, before, after)
                | _grounds(_evidence(change, than), later.timestamp)
                | {"kvm_cpu": _numbers(cpus)}
            },
        )


def _announce_new_cpus(earlier: Sample, later: Sample) -> None:
    """Log the CPUs that the earlier sample does not know, and that differ from most CPUs."""
    for cpus, words in divergences(later):
        if new := [cpu for cpu in cpus if cpu not in earlier.known]:
            fields = _grounds(LEAVES, later.timestamp) | {"kvm_cpu": _numbers(new)}
            logger.warning("CPU %s differs: %s", format_cpu_list(new), words, extra={"fields": fields})


def _announce_boot_drift(reference: BootReference, observation: Observation) -> None:
    """Log what has changed since the boot reference was taken, while the exporter was not running."""
    now = observation.sample.common
    if change := observation.since_reference:
        found = observation.effects
        logger.log(
            LOG_LEVELS[urgency(change, found)],
            "the feature set has changed %s: %s",
            reference.since,
            describe(change, reference.leaves, now),
            extra={
                "fields": _fields(BOOT_DRIFT_ID, change, found, reference.leaves, now)
                | _grounds(_evidence(change, _taken(reference)), reference.changed)
            },
        )


def _announce_use(earlier: Iterable[Feature], now: Observation) -> None:
    """Log the features that the kernel is newly known to use although they are not offered; see USED_NOT_OFFERED."""
    if features := tuple(feature for feature in now.used_not_offered if feature not in earlier):
        fields = {"message_id": USED_ID, "kvm_feature": tuple(feature.name for feature in features)}
        grounds = _grounds(USED_NOT_OFFERED.evidence, now.sample.timestamp)
        logger.warning("used, not offered: %s", feature_list(features), extra={"fields": fields | grounds})


def _numbers(cpus: Iterable[int]) -> tuple[str, ...]:
    """Return the values of a journal field that has one value for each CPU."""
    return tuple(map(str, cpus))


def _fields(
    message_id: str, change: Difference, found: Collection[Effect], before: Leaves, after: Leaves
) -> dict[str, object]:
    """Return the journal fields of a change. A tuple is a field with several values."""
    lost, gained = (tuple(feature.name for feature in features) for features in (change.lost, change.gained))
    return {
        "message_id": message_id,
        "kvm_feature": lost + gained,
        "kvm_lost": ",".join(lost),
        "kvm_gained": ",".join(gained),
        "kvm_severity": severity_words(max((effect.severity for effect in found), default=Severity.UNKNOWN)),
        "kvm_action": advice(change, found),
        "kvm_before": summary(before),
        "kvm_after": summary(after),
    }


def _grounds(evidence: str, since: float | None) -> dict[str, object]:
    """Return the journal fields with what a line rests on, and when the exporter first saw it."""
    return {"kvm_evidence": evidence, "kvm_since": moment(since) if since is not None else ""}


def _evidence(change: Difference, than: str) -> str:
    """Return what a change was read from, and what it is compared with."""
    leaves = [LEAVES] if change.lost or change.gained or change.identity else []
    timing = [f"{FREQUENCY}, to 250 ppm"] if change.tsc is not None else []
    return f"{' and '.join(leaves + timing)}; compared with {than}"


def _taken(reference: BootReference) -> str:
    after = f", {duration_words(reference.uptime)} after boot" if reference.uptime is not None else ""
    return f"the boot reference of {moment(reference.timestamp)}{after}"
