"""What each alert says and when: it fires, it stays silent, it outlives a restart, it does not take silence for a no.

Each scene has a fleet in a state that one alert is about, and a time that looks much like it. promtool evaluates the
committed rules minute by minute; of all alerts, no other than what a scene tells may fire.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kvm_exporter.kvm.drift import TSC_TOLERANCE, Difference
from kvm_exporter.kvm.effects import Level, effects
from kvm_exporter.kvm.features import FEATURES, Feature, feature_named
from lab.readers import guest
from tests.support.monitoring.fleet import (
    Ago,
    Expected,
    Firing,
    Fleet,
    Machine,
    PerMinute,
    Phase,
    alert_rules,
    input_series,
    minutes,
    promtool_says,
    promtool_tests,
    series,
    without,
)
from tests.support.monitoring.queries import metrics_of
from tests.support.slow import slow_but_first

GUEST = "guest-1:10401"

STEAL_TIME = {"feature": "steal_time", "register": "eax", "bit": "5"}
STABLE = {"feature": "clocksource_stable_bit", "register": "eax", "bit": "24"}
TLB_FLUSH = {"feature": "pv_tlb_flush", "register": "eax", "bit": "9"}
ASYNC_PF = {"feature": "async_pf", "register": "eax", "bit": "4"}
ASYNC_PF_INT = {"feature": "async_pf_int", "register": "eax", "bit": "14"}
YIELD = {"feature": "pv_sched_yield", "register": "eax", "bit": "13"}
REALTIME = {"feature": "hints_realtime", "register": "edx", "bit": "0"}
SIGNED = {"signature": "KVMKVMKVM"}

TSC = 2_600_000_000
"""The TSC frequency in Hz; 250 ppm of it are 650 kHz."""


def offered(feature: dict[str, str], value: int) -> Machine:
    """Whether a feature is offered."""
    return {series("kvm_feature_offered", **feature, **SIGNED): value}


def drifted(feature: dict[str, str], value: int) -> Machine:
    """A feature that was lost, -1, or gained, 1, and how many were."""
    change = "lost" if value < 0 else "gained"
    return {
        **offered(feature, int(value > 0)),
        series("kvm_boot_feature_changed", **feature, **SIGNED): value,
        series("kvm_boot_feature_changes", change=change): 1,
    }


BITS = (STEAL_TIME, STABLE, TLB_FLUSH, ASYNC_PF, ASYNC_PF_INT, YIELD, REALTIME)


def served(machine: Machine) -> Machine:
    """With what the exporter derives from the rest: the use of what is not offered, and violations of the baseline."""
    found = dict(machine)
    for bit in BITS:
        offer = machine.get(series("kvm_feature_offered", **bit, **SIGNED), 0)
        use = machine.get(series("kvm_feature_in_use", **bit))
        expected = machine.get(series("kvm_feature_expected", **bit))
        if use is not None and not offer:
            found[series("kvm_unoffered_feature_in_use", **bit)] = use
        if expected is not None and expected != offer and "kvm_present" in machine:
            found[series("kvm_baseline_violation", **bit)] = -1 if expected else 1
    return found


def shows(fingerprint: str) -> Machine:
    """A guest of which no more matters."""
    return {"up": 1, "kvm_present": 1, series("kvm_fingerprint_info", fingerprint=fingerprint): 1}


def hosts(fingerprint: str, *, on_tsc: bool = True) -> Machine:
    """A host of guests, by what its KVM can offer."""
    return {
        "up": 1,
        series("kvm_host_fingerprint_info", fingerprint=fingerprint): 1,
        "kvm_host_clocksource_based_on_tsc": on_tsc,
    }


DAY = 24 * 60 * 60
"""Seconds."""


def refuses(logins: float = 0, certificates: float = 0) -> Machine:
    """How many logins and client certificates an exporter refuses each minute, beside what else it counts."""
    return {
        series("kvm_exporter_http_requests_total", code="200"): PerMinute(1),
        series("kvm_exporter_http_requests_total", code="401"): PerMinute(logins),
        series("kvm_exporter_http_requests_total", code="404"): PerMinute(5),
        series("kvm_exporter_http_connections_dropped_total", reason="deadline"): PerMinute(5),
        series("kvm_exporter_http_connections_dropped_total", reason="client_certificate"): PerMinute(certificates),
    }


HEALTHY: Machine = {
    "up": 1,
    "kvm_present": 1,
    series("kvm_signature_info", signature="Microsoft Hv", base="0x40000000", max_leaf="0x4000000c"): 1,
    series("kvm_signature_info", signature="KVMKVMKVM", base="0x40000100", max_leaf="0x40000101"): 1,
    **shows("a56f971aee6ec7ef"),
    **offered(STEAL_TIME, 1),
    **offered(STABLE, 1),
    **offered(TLB_FLUSH, 1),
    **offered(ASYNC_PF, 1),
    **offered(YIELD, 0),
    **offered(REALTIME, 0),
    "kvm_cpus_divergent": 0,
    series("kvm_cpus", state="sampled"): 4,
    series("kvm_cpus", state="failed"): 0,
    "kvm_tsc_frequency_hertz": TSC,
    "kvm_clock_tsc_frequency_hertz": TSC,
    "kvm_clock_stable": 1,
    "kvm_boot_tsc_frequency_hertz": TSC,
    "kvm_boot_reference_persistent": 1,
    "kvm_boot_reference_uptime_seconds": 20,
    series("kvm_boot_feature_changes", change="lost"): 0,
    series("kvm_boot_feature_changes", change="gained"): 0,
    "kvm_boot_signature_changed": 0,
    series("kvm_feature_expected", **STEAL_TIME): 1,
    series("kvm_feature_expected", **REALTIME): 0,
    series("kvm_feature_in_use", **STEAL_TIME): 1,
    "kvm_clocksource_current_is_kvmclock": 1,
    "kvm_exporter_sample_success": 1,
    "kvm_exporter_sample_timestamp_seconds": Ago(30),
    "kvm_exporter_sample_max_age_seconds": 60,
    "kvm_exporter_web_config_last_reload_successful": 1,
    "kvm_exporter_web_certificate_expiry_timestamp_seconds": 90 * DAY,
    **refuses(),
    series("kvm_exporter_collector_success", collector="baseline"): 1,
}
"""A guest that Hyper-V's signature is shown to as well, with a baseline and with every evidence."""

DOWN: Machine = {"up": 0}

UNSAMPLED: Machine = {
    "up": 1,
    "kvm_exporter_sample_success": 0,
    "kvm_exporter_sample_max_age_seconds": 60,
    series("kvm_feature_expected", **STEAL_TIME): 1,
    series("kvm_feature_expected", **REALTIME): 0,
}
"""What an exporter serves that could never sample."""

BARE: Machine = without(
    HEALTHY,
    "kvm_signature_info",
    "kvm_fingerprint_info",
    "kvm_feature_offered",
    "kvm_feature_expected",
    "kvm_feature_in_use",
) | {
    "kvm_present": 0,
    "kvm_clocksource_current_is_kvmclock": 0,
}


def one(machine: Machine) -> Fleet:
    """A fleet of a single guest."""
    return {GUEST: served(machine)}


def several(*counts: tuple[int, Machine]) -> Fleet:
    """So many guests of each kind, numbered from 1."""
    machines = [served(machine) for count, machine in counts for _ in range(count)]
    return {f"guest-{number}:10401": machine for number, machine in enumerate(machines, 1)}


@dataclass(frozen=True, slots=True)
class Scene:
    """A fleet that an alert is about, its text, what else fires then; and what is near, and what else fires there."""

    fault: Fleet
    labels: dict[str, str]
    summary: str
    description: str
    near: Sequence[Phase]
    also: frozenset[str] = frozenset()
    nearby: frozenset[str] = frozenset()
    #: For how many minutes the alert goes on after the fault, because it counts what happened in that time.
    looks_back: int = 0

    @property
    def text(self) -> Sequence[Expected]:
        """What is to fire."""
        return [Expected(self.labels, self.summary, self.description)]


ITSELF = {"instance": GUEST}

SCENES = {
    "KvmExporterDown": Scene(
        fault=one(DOWN),
        labels=ITSELF,
        summary="The exporter on guest-1:10401 cannot be scraped",
        description=(
            "The features of guest-1:10401 are unknown: no new problem on it can be found. Check the service."
        ),
        near=[(9, one(DOWN)), (5, one(HEALTHY)), (9, one(DOWN))],
    ),
    "KvmExportersDown": Scene(
        fault=several((3, DOWN), (17, shows("a"))),
        labels={},
        summary="Many exporters of kvm cannot be scraped",
        description="Prometheus can scrape only 85% of the exporters of kvm. Check what the others have in common.",
        near=[(60, several((2, DOWN), (2, shows("a"))))],
        also=frozenset({"KvmExporterDown"}),
        nearby=frozenset({"KvmExporterDown"}),
    ),
    "KvmExporterSampleFailing": Scene(
        fault=one({**HEALTHY, "kvm_exporter_sample_success": 0}),
        labels=ITSELF,
        summary="The KVM CPUID leaves of guest-1:10401 cannot be sampled",
        description=(
            "guest-1:10401 serves the last good sample, or, if no CPU can be read, what an unpinned thread reads. The "
            "exporter's log has the reason."
        ),
        near=[(4, one({**HEALTHY, "kvm_exporter_sample_success": 0})), (1, one(HEALTHY))] * 5,
    ),
    "KvmCpusUnreadable": Scene(
        fault=one({**HEALTHY, series("kvm_cpus", state="sampled"): 2, series("kvm_cpus", state="failed"): 2}),
        labels={**ITSELF, "state": "failed"},
        summary="CPUs of guest-1:10401 cannot be read",
        description=(
            "Number of CPUs of guest-1:10401 that could not be read: 2. What the hypervisor offers there is unknown. "
            "The exporter's log has the cause. Remove the cause, or exclude the CPUs with --sample.cpus."
        ),
        # A real-time task holds a CPU for a while; CPUs that are excluded on purpose are skipped.
        near=[
            (14, one({**HEALTHY, series("kvm_cpus", state="failed"): 1})),
            (1, one(HEALTHY)),
            (60, one({**HEALTHY, series("kvm_cpus", state="skipped"): 2, series("kvm_cpus", state="retained"): 1})),
        ],
    ),
    "KvmBootReferenceVolatile": Scene(
        fault=one({**HEALTHY, "kvm_boot_reference_persistent": 0}),
        labels=ITSELF,
        summary="The boot reference of guest-1:10401 is in memory only",
        description=(
            "When the exporter on guest-1:10401 restarts, it takes a new boot reference: alerts on drift resolve "
            "although the drift lasts. Set RuntimeDirectory= and RuntimeDirectoryPreserve=yes in its unit, or use "
            "--reference.directory."
        ),
        # The disk was full for a while; an exporter without any reference has none to lose.
        near=[
            (59, one({**HEALTHY, "kvm_boot_reference_persistent": 0})),
            (90, one(HEALTHY)),
            (90, one(without(HEALTHY, "kvm_boot_reference_persistent"))),
        ],
    ),
    "KvmExporterSampleStale": Scene(
        fault=one({**HEALTHY, "kvm_exporter_sample_timestamp_seconds": Ago(600)}),
        labels=ITSELF,
        summary="The sample of guest-1:10401 is too old",
        description=(
            "The sample of guest-1:10401 was 10m 0s old when it was scraped, by the clocks of the machine and of "
            "Prometheus. Check the clock of the machine first, then the exporter's log."
        ),
        near=[
            (30, one({**HEALTHY, "kvm_exporter_sample_timestamp_seconds": Ago(230)})),
            (
                30,
                one(
                    {
                        **HEALTHY,
                        "kvm_exporter_sample_timestamp_seconds": Ago(90_000),
                        "kvm_exporter_sample_max_age_seconds": 0,
                    }
                ),
            ),
        ],
    ),
    "KvmExporterWebConfigReloadFailing": Scene(
        fault=one({**HEALTHY, "kvm_exporter_web_config_last_reload_successful": 0}),
        labels=ITSELF,
        summary="The exporter on guest-1:10401 cannot load its new web configuration",
        description=(
            "guest-1:10401 keeps the previous web configuration, including its certificate. Correct the file; no "
            "restart is needed."
        ),
        near=[(60, one(without(HEALTHY, "kvm_exporter_web_config_last_reload_successful")))],
    ),
    "KvmExporterCertificateExpiring": Scene(
        fault=one({**HEALTHY, "kvm_exporter_web_certificate_expiry_timestamp_seconds": 7 * DAY}),
        labels=ITSELF,
        summary="The certificate of the exporter on guest-1:10401 ends soon",
        description=(
            "guest-1:10401 serves a certificate that is valid until 1970-01-08 00:00:00 +0000 UTC. After that, "
            "Prometheus cannot scrape the exporter, and no new problem of the machine can be found. Renew the "
            "certificate."
        ),
        # It is renewed while others are, or there are some hours more than two weeks; without TLS there is none.
        near=[
            (59, one({**HEALTHY, "kvm_exporter_web_certificate_expiry_timestamp_seconds": 7 * DAY})),
            (90, one({**HEALTHY, "kvm_exporter_web_certificate_expiry_timestamp_seconds": 14 * DAY + 15_000})),
            (90, one(without(HEALTHY, "kvm_exporter_web_certificate_expiry_timestamp_seconds"))),
        ],
    ),
    "KvmExporterRefusing": Scene(
        fault=one({**HEALTHY, **refuses(logins=2, certificates=1)}),
        labels=ITSELF,
        summary="The exporter on guest-1:10401 keeps refusing clients",
        description=(
            "For 20 minutes, the exporter on guest-1:10401 has refused logins or TLS handshakes again and again. A "
            "client has a wrong password or certificate, or passwords are being guessed. The exporter's log has the "
            "addresses."
        ),
        # Somebody mistypes a password many times within a minute, and once an hour; one handshake fails.
        near=[
            (1, one({**HEALTHY, **refuses(logins=100)})),
            (60, one(HEALTHY)),
            (1, one({**HEALTHY, **refuses(logins=1, certificates=1)})),
            (60, one(HEALTHY)),
        ],
        looks_back=15,
    ),
    "KvmExporterBaselineReloadFailing": Scene(
        fault=one({**HEALTHY, series("kvm_exporter_collector_success", collector="baseline"): 0}),
        labels={**ITSELF, "collector": "baseline"},
        summary="The exporter on guest-1:10401 cannot load its baseline",
        description=(
            "guest-1:10401 keeps the previous baseline; if it started with the invalid file, it has none. Correct the "
            "file; no restart is needed."
        ),
        # Where nobody may open /dev/kvm, the host's view fails; that is as it was meant.
        near=[(60, one({**HEALTHY, series("kvm_exporter_collector_success", collector="host"): 0}))],
    ),
    "KvmVanished": Scene(
        fault=one(
            {
                **BARE,
                **drifted(STEAL_TIME, -1),
                **drifted(TLB_FLUSH, -1),
                "kvm_boot_signature_changed": 1,
                series("kvm_feature_expected", **STEAL_TIME): 1,
                series("kvm_feature_in_use", **STEAL_TIME): 1,
            }
        ),
        labels=ITSELF,
        summary="guest-1:10401 is no longer offered KVM",
        description=(
            "KVM offered guest-1:10401 features when this boot was first sampled, and now its signature is missing. "
            "Take the machine out of service now. Then migrate it back, or reboot it, not by kexec."
        ),
        near=[(60, one(BARE)), (10, one({**BARE, "kvm_boot_signature_changed": 1}))],
        also=frozenset(
            {"KvmFeatureLostDangerous", "KvmFeatureLostHarmless", "KvmSignatureChanged", "KvmFeatureMissing"}
        ),
        nearby=frozenset({"KvmSignatureChanged"}),
    ),
    "KvmSignatureChanged": Scene(
        fault=one({**HEALTHY, "kvm_boot_signature_changed": 1}),
        labels=ITSELF,
        summary="guest-1:10401 sees different hypervisor signatures than when first sampled",
        description=(
            "A hypervisor signature of guest-1:10401, or the base of its leaves, differs from the first sample of this "
            "boot. Give both hosts the same CPU definition. Migrate the machine back, or reboot it, not by kexec. "
            "Until then, add no CPU, take none offline and online, and do not suspend it."
        ),
        near=[
            (60, one(HEALTHY)),
            (
                60,
                one(
                    {
                        **without(HEALTHY, "kvm_signature_info"),
                        series(
                            "kvm_signature_info", signature="KVMKVMKVM", base="0x40000000", max_leaf="0x40000010"
                        ): 1,
                    }
                ),
            ),
        ],
    ),
    "KvmFeatureLostDangerous": Scene(
        fault=one({**HEALTHY, **drifted(STEAL_TIME, -1)}),
        labels={**ITSELF, **STEAL_TIME},
        summary="guest-1:10401 lost steal_time, which it depends on",
        description=(
            "The hypervisor offered guest-1:10401 steal_time (eax bit 5) when this boot was first sampled, and does "
            "not offer it now. At stake: time (clocksource, clocksource2), memory (steal_time). Take the machine out "
            "of service now. Then migrate it back, or reboot it, not by kexec."
        ),
        # Where TLB flushes do not depend on it, or nothing does, it is less urgent; then the machine boots elsewhere.
        near=[
            (30, one({**HEALTHY, **drifted(STEAL_TIME, -1), **offered(TLB_FLUSH, 0)})),
            (30, one({**HEALTHY, **drifted(STEAL_TIME, -1), series("kvm_feature_in_use", **TLB_FLUSH): 0})),
            (30, one({**HEALTHY, **drifted(STEAL_TIME, -1), series("kvm_feature_in_use", **STEAL_TIME): 0})),
            (30, one({**HEALTHY, **offered(STEAL_TIME, 0)})),
        ],
        also=frozenset({"KvmFeatureMissing"}),
        nearby=frozenset(
            {
                *("KvmFeatureLost", "KvmFeatureLostHarmless", "KvmFeatureMissing"),
                *("KvmFeatureUsedNotOffered", "KvmFeatureSwitchedOff"),
            }
        ),
    ),
    "KvmFeatureLost": Scene(
        fault=one({**HEALTHY, **drifted(ASYNC_PF, -1)}),
        labels={**ITSELF, **ASYNC_PF},
        summary="guest-1:10401 lost async_pf",
        description=(
            "The hypervisor offered guest-1:10401 async_pf (eax bit 4) when this boot was first sampled, and does not "
            "offer it now. If the kernel uses the feature, tasks may stall or be slower. Migrate the machine back, or "
            "reboot it, not by kexec."
        ),
        # The machine boots anew where the feature is not offered, or is looked at for the first time.
        near=[(30, one({**HEALTHY, **offered(YIELD, 1)})), (5, one(DOWN)), (60, one(HEALTHY))],
    ),
    "KvmFeatureLostHarmless": Scene(
        fault=one({**HEALTHY, **drifted(STABLE, -1), "kvm_clocksource_current_is_kvmclock": 0}),
        labels={**ITSELF, **STABLE},
        summary="guest-1:10401 lost clocksource_stable_bit, which is harmless under QEMU's defaults",
        description=(
            "The hypervisor offered guest-1:10401 clocksource_stable_bit (eax bit 24) when this boot was first "
            "sampled, and does not offer it now. Under QEMU's defaults nothing follows, or the kernel does not use it. "
            "Under a VMM that enforces CPUID or restores all MSRs, it may matter: see the runbook. "
            "Find out why the hosts differ."
        ),
        # It is over before its time; the machine lost what is not harmless.
        near=[
            (14, one({**HEALTHY, **drifted(STABLE, -1), "kvm_clocksource_current_is_kvmclock": 0})),
            (20, one(HEALTHY)),
            (60, one({**HEALTHY, **drifted(ASYNC_PF, -1)})),
        ],
        nearby=frozenset({"KvmFeatureLost"}),
    ),
    "KvmFeatureUsedNotOffered": Scene(
        fault=one(
            {
                **without(HEALTHY, "kvm_feature_expected"),
                **offered(STEAL_TIME, 0),
                series("kvm_feature_in_use", **YIELD): 0,
            }
        ),
        labels={**ITSELF, **STEAL_TIME},
        summary="guest-1:10401 uses steal_time, which it is not offered",
        description=(
            "The kernel of guest-1:10401 has enabled steal_time (eax bit 5), and the hypervisor does not offer it. It "
            "may have been lost before this boot was first sampled. Migrate the machine back, or reboot it, not by "
            "kexec."
        ),
        # KvmFeatureLostDangerous tells of the same bit; and nobody knows whether a feature is used, or it is not.
        near=[
            (60, one({**HEALTHY, **drifted(STEAL_TIME, -1)})),
            (20, one(HEALTHY)),
            (60, one(without({**HEALTHY, **offered(STEAL_TIME, 0)}, "kvm_feature_in_use", "kvm_feature_expected"))),
            (60, one({**HEALTHY, series("kvm_feature_in_use", **YIELD): 0})),
        ],
        nearby=frozenset({"KvmFeatureLostDangerous", "KvmFeatureMissing"}),
    ),
    "KvmTscFrequencyChanged": Scene(
        fault=one({**HEALTHY, "kvm_clock_tsc_frequency_hertz": 3_100_000_000}),
        labels=ITSELF,
        summary="The TSC frequency of guest-1:10401 has changed",
        description=(
            "KVM reports a TSC frequency to guest-1:10401 that differs by 500MHz from the first sample of this boot. A "
            "kernel or program that counts time by the TSC may be wrong. Compare the clock of the machine with another "
            "one. Migrate the machine back, or reboot it, not by kexec."
        ),
        # Hosts whose frequencies were measured differ by a few kHz; 650 kHz are within the tolerance.
        near=[
            (60, one({**HEALTHY, "kvm_clock_tsc_frequency_hertz": TSC + 650_000})),
            (60, one({**HEALTHY, "kvm_clock_tsc_frequency_hertz": TSC - 650_000})),
            # A timing leaf that contradicts the page has nothing to do with a change.
            (60, one({**HEALTHY, "kvm_tsc_frequency_hertz": 3_100_000_000})),
            (
                60,
                one(
                    without({**HEALTHY, "kvm_clock_tsc_frequency_hertz": 3_100_000_000}, "kvm_boot_tsc_frequency_hertz")
                ),
            ),
        ],
    ),
    "KvmFeatureGainedRisky": Scene(
        fault=several((2, {**HEALTHY, **drifted(ASYNC_PF_INT, 1)}), (2, HEALTHY)),
        labels=ASYNC_PF_INT,
        summary="Running machines of kvm gained async_pf_int, for which they are not prepared: 2",
        description=(
            "These machines are offered async_pf_int (eax bit 14) now, and were not offered it when their boot was "
            "first sampled. A CPU that comes online, and all CPUs after a resume, enable it without a handler. Reboot "
            "the machines, not by kexec. Until then, add no CPU, take none offline and online, and do not suspend them."
        ),
        near=[(60, several((2, {**HEALTHY, **drifted(YIELD, 1)}), (2, {**HEALTHY, **offered(ASYNC_PF_INT, 1)})))],
        nearby=frozenset({"KvmFeatureGained"}),
    ),
    "KvmFeatureGained": Scene(
        fault=several((2, {**HEALTHY, **drifted(YIELD, 1)}), (2, HEALTHY)),
        labels=YIELD,
        summary="Running machines of kvm gained pv_sched_yield: 2",
        description=(
            "These machines are offered pv_sched_yield (eax bit 13) now, and were not offered it when their boot was "
            "first sampled. No harm is known to follow before they reboot. Finish the roll-out."
        ),
        near=[(60, several((2, {**HEALTHY, **offered(YIELD, 1)}), (2, {**HEALTHY, **drifted(ASYNC_PF_INT, 1)})))],
        nearby=frozenset({"KvmFeatureGainedRisky"}),
    ),
    "KvmCpusDiffer": Scene(
        fault=one({**HEALTHY, "kvm_cpus_divergent": 2}),
        labels=ITSELF,
        summary="CPUs of guest-1:10401 are offered different features",
        description=(
            "Number of CPUs of guest-1:10401 that differ from the majority: 2. Stop the machine and start it again; a "
            "reboot is not enough."
        ),
        near=[(3, one({**HEALTHY, "kvm_cpus_divergent": 1})), (1, one(HEALTHY))] * 5,
    ),
    "KvmFingerprintRare": Scene(
        fault=several((1, shows("rare")), (24, shows("usual"))),
        labels={"fingerprint": "rare"},
        summary="Machines in kvm with a rare feature set: 1",
        description=(
            "Fewer than 5% of the machines in kvm have the feature set with the fingerprint rare. One of them: "
            "guest-1:10401. Check the hosts of these machines."
        ),
        near=[(180, several((1, shows("other")), (19, shows("usual"))))],
        nearby=frozenset({"KvmFleetMixed"}),
    ),
    "KvmFleetMixed": Scene(
        fault=several((4, shows("old")), (6, shows("new"))),
        labels={},
        summary="kvm has mixed feature sets",
        description=(
            "Number of feature sets that at least 5% of the machines in kvm have each: 2. Finish the roll-out. If "
            "no roll-out is under way, make the hosts equal."
        ),
        near=[(180, several((1, shows("rare")), (24, shows("usual"))))],
        nearby=frozenset({"KvmFingerprintRare"}),
    ),
    "KvmHostsDiffer": Scene(
        fault=several((1, hosts("new")), (9, hosts("old"))),
        labels={},
        summary="The hosts in kvm can offer different features",
        description=(
            "Number of feature sets that the KVM of the hosts in kvm can offer: 2. A guest that migrates between them "
            "may lose features. Finish the upgrade of the hosts, or give each migration pool its own cohort."
        ),
        # Guests are offered other features than hosts could offer; and a host reboots into another kernel and back.
        near=[
            (90, several((3, hosts("old")), (3, shows("guests")))),
            (29, several((1, hosts("new")), (2, hosts("old")), (3, shows("guests")))),
            (60, several((3, hosts("old")), (3, shows("guests")))),
        ],
    ),
    "KvmHostClockUnstable": Scene(
        fault=one(hosts("old", on_tsc=False)),
        labels=ITSELF,
        summary="Guests of guest-1:10401 cannot have a stable kvmclock",
        description=(
            "The current clocksource of guest-1:10401 is not based on the TSC, and KVM then promises no guest a stable "
            "kvmclock: reading the time is slow there. The kernel log of the host has the reason. If the host is a "
            "guest itself, this is usual."
        ),
        # A host is on another clocksource while it boots; a guest on any is no host.
        near=[
            (14, one(hosts("old", on_tsc=False))),
            (30, one(hosts("old"))),
            (60, one({**HEALTHY, "kvm_clocksource_current_is_kvmclock": 0})),
        ],
    ),
    "KvmFeatureMissing": Scene(
        fault=one({**without(HEALTHY, "kvm_feature_in_use"), **offered(STEAL_TIME, 0)}),
        labels={**ITSELF, **STEAL_TIME},
        summary="guest-1:10401 is not offered steal_time",
        description=(
            "The baseline of guest-1:10401 requires steal_time (eax bit 5), and the hypervisor does not offer it. "
            "Enable it in the CPU definition, or correct the baseline."
        ),
        near=[(60, one(UNSAMPLED))],
        nearby=frozenset({"KvmExporterSampleFailing"}),
    ),
    "KvmFeatureForbidden": Scene(
        fault=one({**HEALTHY, **offered(REALTIME, 1)}),
        labels={**ITSELF, **REALTIME},
        summary="guest-1:10401 is offered hints_realtime",
        description=(
            "The baseline of guest-1:10401 forbids hints_realtime (edx bit 0), and the hypervisor offers it. Disable "
            "it in the CPU definition, or correct the baseline."
        ),
        near=[(60, one(without({**HEALTHY, **offered(REALTIME, 1)}, "kvm_feature_expected")))],
    ),
    "KvmFeatureSwitchedOff": Scene(
        fault=one({**HEALTHY, series("kvm_feature_switched_off", **STEAL_TIME, switch="nopv"): 1}),
        labels={**ITSELF, **STEAL_TIME, "switch": "nopv"},
        summary="A boot switch disables steal_time on guest-1:10401",
        description=(
            "The hypervisor offers guest-1:10401 steal_time (eax bit 5), and nopv on the kernel's command line "
            "disables it. Remove the switch and reboot, or silence this alert."
        ),
        # A switch for a feature that is not offered; and a kernel that does not use a feature for another reason.
        near=[
            (
                60,
                one(
                    {
                        **HEALTHY,
                        series("kvm_feature_switched_off", **YIELD, switch="nopv"): 1,
                        series("kvm_feature_in_use", **YIELD): 0,
                    }
                ),
            ),
            (60, one({**HEALTHY, series("kvm_feature_in_use", **STEAL_TIME): 0})),
        ],
    ),
    "KvmClockUnstable": Scene(
        fault=one({**HEALTHY, "kvm_clock_stable": 0}),
        labels=ITSELF,
        summary="kvm-clock on guest-1:10401 is not stable",
        description=(
            "guest-1:10401 uses kvm-clock, and KVM says that it is not stable, or did not offer clocksource_stable_bit "
            "(eax bit 24) at boot. Each reading of the time is a system call. Check that the clocksource of the host "
            "is tsc; if the bit was missing at boot, enable it in the CPU definition, and reboot the machine."
        ),
        near=[
            (60, one({**HEALTHY, "kvm_clock_stable": 0, "kvm_clocksource_current_is_kvmclock": 0})),
            (60, one({**HEALTHY, **drifted(STABLE, -1)})),
            (60, one({**BARE, "kvm_clocksource_current_is_kvmclock": 1})),
        ],
        nearby=frozenset({"KvmFeatureLostHarmless"}),
    ),
}

RULES = alert_rules()
ON_MACHINES = [name for name, rule in RULES.items() if rule["expr"].endswith(":last")]
ON_COHORTS = [name for name, rule in RULES.items() if "keep_firing_for" in rule]
DRIFT = [*ON_MACHINES, *ON_COHORTS]
"""Those that outlast a time without samples: by a machine's last sample, or because Prometheus keeps them firing."""

ABOUT_SILENCE = {"KvmExporterDown", "KvmExportersDown"}

ABSENCE_IS_A_NO = {
    ("KvmFeatureUsedNotOffered", "kvm_boot_feature_changed"),
    ("KvmFeatureLostDangerous", "kvm_feature_in_use"),
    ("KvmFeatureLostDangerous", "kvm_unoffered_feature_in_use"),
    ("KvmFeatureLost", "kvm_feature_in_use"),
    ("KvmFeatureLost", "kvm_feature_offered"),
    ("KvmFeatureLost", "kvm_unoffered_feature_in_use"),
    ("KvmFeatureLostHarmless", "kvm_feature_in_use"),
    ("KvmFeatureLostHarmless", "kvm_feature_offered"),
    ("KvmFeatureLostHarmless", "kvm_unoffered_feature_in_use"),
    ("KvmFeatureSwitchedOff", "kvm_unoffered_feature_in_use"),
}
"""Where KVM is there, and this series is not: then the feature is not offered, or has not changed. A feature counts as
used unless it is known not to be; another one that makes a loss worse counts as offered only where it was."""

ANOTHER_TELLS = {
    ("KvmTscFrequencyChanged", "kvm_tsc_frequency_hertz"),
    ("KvmClockUnstable", "kvm_feature_offered"),
    ("KvmClockUnstable", "kvm_boot_feature_changed"),
    ("KvmClockUnstable", "kvm_boot_reference_uptime_seconds"),
    ("KvmExporterRefusing", "kvm_exporter_http_requests_total"),
    ("KvmExporterRefusing", "kvm_exporter_http_connections_dropped_total"),
}
"""Where this series is missing, and the pvclock page says it all, or the other one of two counters."""

METRICS = {
    name: sorted(metrics_of(rule["expr"]) - ({"kvm_exporter_sample_success"} if name in ON_MACHINES else set()))
    for name, rule in RULES.items()
    if name not in ABOUT_SILENCE
}
"""What each alert reads of the machine, without what tells whether a machine has a sample."""

NONE: Firing = {}


def wait(name: str) -> int:
    """For how many minutes it has to be so until an alert fires."""
    text = str(RULES[name]["for"])
    return int(text[:-1]) * {"m": 1, "h": 60}[text[-1]]


def all_of(scene: Scene, machine: Machine) -> Fleet:
    """The scene's fleet with every machine in one state."""
    return dict.fromkeys(scene.fault, machine)


def test_every_alert_has_a_scene() -> None:
    """And none is left over."""
    assert SCENES.keys() == RULES.keys()


def test_there_are_alerts_on_drift() -> None:
    """Those that outlive a machine's silence."""
    assert DRIFT == [
        "KvmVanished",
        "KvmSignatureChanged",
        "KvmFeatureLostDangerous",
        "KvmFeatureLost",
        "KvmFeatureLostHarmless",
        "KvmFeatureUsedNotOffered",
        "KvmTscFrequencyChanged",
        "KvmCpusDiffer",
        "KvmFeatureGainedRisky",
        "KvmFeatureGained",
    ]


@pytest.mark.parametrize("name", SCENES)
def test_it_fires_with_its_text_in_its_time(name: str, tmp_path: Path) -> None:
    """Not before its time, then for as long as it lasts, and not when it is over."""
    scene, due = SCENES[name], 10 + wait(name)
    kept = 16 if name in ON_COHORTS else scene.looks_back
    phases = [(10, all_of(scene, HEALTHY)), (wait(name) + 180, scene.fault), (kept + 2, all_of(scene, HEALTHY))]
    firing = {name: scene.text}
    checks = {9: NONE, due - 2: NONE, due + 2: firing, due + 178: firing, minutes(phases) - 1: NONE}
    assert promtool_says(tmp_path, phases, checks, ignored=set(scene.also)) == ""


@pytest.mark.parametrize("name", SCENES)
def test_it_stays_silent_where_it_is_only_near(name: str, tmp_path: Path) -> None:
    """At every fifth minute, and at the last."""
    scene = SCENES[name]
    phases = [(10, all_of(scene, HEALTHY)), *scene.near]
    checks = dict.fromkeys([*range(0, minutes(phases), 5), minutes(phases) - 1], NONE)
    assert promtool_says(tmp_path, phases, checks, ignored=set(scene.nearby)) == ""


@pytest.mark.parametrize("name", SCENES)
def test_it_fires_again_after_a_restart(name: str, tmp_path: Path) -> None:
    """The exporter is away for five minutes: an alert on drift goes on, another is over and comes again."""
    scene, length = SCENES[name], wait(name) + 5
    phases = [(10, all_of(scene, HEALTHY)), (length, scene.fault), (5, all_of(scene, DOWN)), (length, scene.fault)]
    firing: Firing = {name: scene.text}
    checks: dict[int, Firing] = {10 + length - 1: firing, minutes(phases) - 1: firing}
    if name not in ABOUT_SILENCE:
        checks[10 + length + 3] = firing if name in DRIFT or scene.looks_back else NONE
    if name in DRIFT:
        checks[10 + length + 5] = firing
    assert promtool_says(tmp_path, phases, checks, ignored=set(scene.also)) == ""


@pytest.mark.parametrize("fails", [2, 3])
@pytest.mark.parametrize("name", ON_MACHINES)
def test_drift_is_found_though_scrapes_fail(name: str, fails: int, tmp_path: Path) -> None:
    """Every second or third of them, for an hour, and from the first minute of the fault on."""
    scene = SCENES[name]
    phases = [(10, all_of(scene, HEALTHY)), *[(fails - 1, scene.fault), (1, all_of(scene, DOWN))] * (60 // fails)]
    firing = {name: scene.text}
    assert promtool_says(tmp_path, phases, {68: firing, 69: firing}, ignored=set(scene.also)) == ""


@pytest.mark.parametrize("name", ON_MACHINES)
def test_drift_that_is_over_is_not_that_of_the_last_sample(name: str, tmp_path: Path) -> None:
    """Seen in one sample, and not in the next: then it starts no alert, and neither do scrapes that fail later."""
    scene = SCENES[name]
    brief = [(1, scene.fault), (2, all_of(scene, HEALTHY))]
    phases = [(10, all_of(scene, HEALTHY)), *brief * 10, (wait(name) + 5, all_of(scene, DOWN))]
    checks = dict.fromkeys(range(10, minutes(phases)), NONE)
    assert promtool_says(tmp_path, phases, checks, ignored={*scene.also, "KvmExporterDown"}) == ""


def test_kvm_that_is_back_with_less_is_not_said_to_be_gone(tmp_path: Path) -> None:
    """The machine migrates once more: what it still lacks is told, which KvmVanished would inhibit."""
    vanished, lost = SCENES["KvmVanished"], SCENES["KvmFeatureLostDangerous"]
    phases = [(10, one(HEALTHY)), (10, vanished.fault), (10, lost.fault)]
    ignored = (vanished.also | lost.also) - {"KvmFeatureLostDangerous"}
    firing: Firing = {"KvmFeatureLostDangerous": lost.text}
    assert promtool_says(tmp_path, phases, dict.fromkeys((21, 29), firing), ignored=set(ignored)) == ""


@pytest.mark.parametrize("name", ON_MACHINES)
def test_a_machine_that_is_gone_ends_its_alerts_on_drift(name: str, tmp_path: Path) -> None:
    """Fifteen minutes after its last sample, whether it cannot be scraped or its exporter cannot sample."""
    scene, length = SCENES[name], wait(name) + 5
    for gone in (DOWN, UNSAMPLED):
        phases = [(10, all_of(scene, HEALTHY)), (length, scene.fault), (20, all_of(scene, gone))]
        checks = {10 + length + 13: {name: scene.text}, 10 + length + 16: NONE}
        ignored = {*scene.also, "KvmExporterDown", "KvmExporterSampleFailing"}
        assert promtool_says(tmp_path, phases, checks, ignored=ignored) == ""


@pytest.mark.parametrize("name", DRIFT)
def test_drift_during_an_hour_away_is_not_missed(name: str, tmp_path: Path) -> None:
    """Nothing has to be remembered of the time before: the exporter still knows its boot."""
    scene = SCENES[name]
    phases = [(10, all_of(scene, HEALTHY)), (60, all_of(scene, DOWN)), (wait(name) + 5, scene.fault)]
    says = promtool_says(tmp_path, phases, {minutes(phases) - 1: {name: scene.text}}, ignored=set(scene.also))
    assert says == ""


@pytest.mark.parametrize("name", slow_but_first(DRIFT))
def test_drift_that_lasts_is_not_forgotten(name: str, tmp_path: Path) -> None:
    """After a day it fires as after an hour."""
    scene = SCENES[name]
    phases = [(10, all_of(scene, HEALTHY)), (24 * 60, scene.fault)]
    checks = {minute: {name: scene.text} for minute in (100, 24 * 60)}
    assert promtool_says(tmp_path, phases, checks, ignored=set(scene.also)) == ""


@pytest.mark.parametrize(("hertz", "fires"), [(TSC + 651_000, True), (TSC - 651_000, True), (TSC + 649_000, False)])
def test_a_tsc_frequency_has_a_tolerance_both_ways(hertz: int, fires: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """The alert starts where the exporter's own comparison starts: above 250 ppm, faster or slower."""
    assert (abs(hertz - TSC) > TSC * TSC_TOLERANCE) is fires
    expected = [
        Expected(alert.labels, alert.summary, alert.description.replace("500MHz", "651kHz"))
        for alert in SCENES["KvmTscFrequencyChanged"].text
    ]
    firing: Firing = {"KvmTscFrequencyChanged": expected if fires else []}
    page = {**HEALTHY, "kvm_clock_tsc_frequency_hertz": hertz}
    leaf_alone = {**without(HEALTHY, "kvm_clock_tsc_frequency_hertz"), "kvm_tsc_frequency_hertz": hertz}
    for machine in (page, leaf_alone):
        assert promtool_says(tmp_path, [(10, one(HEALTHY)), (30, one(machine))], {30: firing}, ignored=set()) == ""


@pytest.mark.parametrize(
    ("machine", "fires"),
    [
        ({**HEALTHY, **offered(STABLE, 0)}, True),
        ({**HEALTHY, **drifted(STABLE, 1)}, True),
        ({**HEALTHY, **drifted(STABLE, -1)}, False),
        ({**HEALTHY, **drifted(STABLE, -1), "kvm_clock_stable": 0}, True),
        (without({**HEALTHY, **offered(STABLE, 0)}, "kvm_clock_stable"), True),
        ({**HEALTHY, **offered(STABLE, 0), "kvm_clocksource_current_is_kvmclock": 0}, False),
        ({**HEALTHY, **offered(STABLE, 0), "kvm_boot_reference_uptime_seconds": 601}, False),
        (without({**HEALTHY, **offered(STABLE, 0)}, "kvm_boot_reference_uptime_seconds"), False),
    ],
    ids=[
        *("missing at boot", "missing at boot, gained", "lost", "lost, and not stable", "missing at boot, no page"),
        *("not current", "late reference", "reference of an older version"),
    ],
)
def test_the_kernel_reads_the_stable_bit_at_boot(machine: Machine, fires: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """A guest without bit 24 at boot is slow until its reboot; one that lost it later goes on by the page's flag."""
    firing: Firing = {"KvmClockUnstable": SCENES["KvmClockUnstable"].text if fires else []}
    phases = [(10, one(HEALTHY)), (10, one(machine))]
    assert promtool_says(tmp_path, phases, {19: firing}, ignored=RULES.keys() - {"KvmClockUnstable"}) == ""


def test_where_no_cpu_can_be_read_two_alerts_say_so(tmp_path: Path) -> None:
    """A sample in which every CPU failed is no success; what is counted per CPU is absent."""
    machine = {
        **without(HEALTHY, "kvm_cpus_divergent"),
        "kvm_exporter_sample_success": 0,
        series("kvm_cpus", state="sampled"): 0,
        series("kvm_cpus", state="failed"): 4,
    }
    unreadable = SCENES["KvmCpusUnreadable"]
    firing: Firing = {
        "KvmExporterSampleFailing": SCENES["KvmExporterSampleFailing"].text,
        "KvmCpusUnreadable": [
            Expected(unreadable.labels, unreadable.summary, unreadable.description.replace("read: 2", "read: 4"))
        ],
    }
    assert promtool_says(tmp_path, [(60, one(machine))], {40: firing}, ignored=set()) == ""


def test_a_restart_without_a_directory_ends_drift_but_not_use(tmp_path: Path) -> None:
    """The new reference lacks the feature: its loss resolves, and the kernel's own evidence fires instead."""
    volatile = {**without(HEALTHY, "kvm_feature_expected"), "kvm_boot_reference_persistent": 0}
    before, after = {**volatile, **drifted(STEAL_TIME, -1)}, {**volatile, **offered(STEAL_TIME, 0)}
    phases = [(70, one(volatile)), (30, one(before)), (5, one(DOWN)), (50, one(after))]
    expected: dict[int, dict[str, bool]] = {
        95: {"KvmBootReferenceVolatile": True, "KvmFeatureLostDangerous": True, "KvmFeatureUsedNotOffered": False},
        150: {"KvmBootReferenceVolatile": False, "KvmFeatureLostDangerous": False, "KvmFeatureUsedNotOffered": True},
    }
    texts = {name: SCENES[name].text for name in expected[95]}
    checks = {
        minute: {name: texts[name] for name, fires in firing.items() if fires} for minute, firing in expected.items()
    }
    assert promtool_says(tmp_path, phases, checks, ignored=set()) == ""


LEVELS = {
    Level.CRITICAL: "KvmFeatureLostDangerous",
    Level.WARNING: "KvmFeatureLost",
    Level.NOTE: "KvmFeatureLostHarmless",
}

TOGETHER = (
    *((one,) for one in FEATURES),
    *(
        tuple(map(feature_named, names))
        for names in (
            ("steal_time", "pv_tlb_flush"),
            ("clocksource", "clocksource2"),
            ("async_pf", "async_pf_int"),
            ("pv_unhalt", "hints_realtime"),
            ("steal_time", "eax_bit_18"),
        )
    ),
)
"""Features that are lost together."""


def test_the_severities_are_those_of_the_table(tmp_path: Path) -> None:
    """Of machines that booted with everything or with nothing else, and use it or not: the alert is the effect's."""
    fleet: dict[str, Machine] = {}
    expected = set()
    for lost in TOGETHER:
        for boot in {tuple(sorted({*FEATURES, *lost})), tuple(sorted(set(FEATURES) - {HINT} | {*lost})), lost}:
            for unused in ((), lost[:1], (feature_named("pv_tlb_flush"),)):
                instance = f"guest-{len(fleet)}"
                fleet[instance] = {
                    **{
                        series("kvm_feature_offered", **labels(one)): one in boot and one not in lost
                        for one in {*FEATURES, *lost}
                    },
                    **{series("kvm_boot_feature_changed", **labels(one)): -1 for one in lost},
                    series("kvm_boot_feature_changes", change="lost"): len(lost),
                    **{series("kvm_feature_in_use", **labels(one)): 0 for one in unused},
                    **{
                        series("kvm_unoffered_feature_in_use", **labels(one)): 0
                        for one in unused
                        if one in lost or one not in boot
                    },
                }
                words = [sum(one.mask for one in boot if one.register == register) for register in ("eax", "edx")]
                for effect in effects(Difference(lost), guest(*words), unused):
                    expected.add((instance, effect.feature.name, LEVELS[effect.level]))
    query = 'count by (instance, feature, alertname) (ALERTS{alertname=~"KvmFeatureLost.*", alertstate="firing"})'
    samples = [
        {"labels": f'{{instance="{instance}", feature="{name}", alertname="{alert}"}}', "value": 1}
        for instance, name, alert in expected
    ]
    test = {
        "interval": "1m",
        "input_series": input_series([(40, fleet)]),
        "promql_expr_test": [{"expr": query, "eval_time": "30m", "exp_samples": samples}],
    }
    assert promtool_tests(tmp_path, test) == ""


HINT = feature_named("hints_realtime")


def labels(feature: Feature) -> dict[str, str]:
    """The labels of a feature's series."""
    return {"feature": feature.name, "register": feature.register, "bit": str(feature.bit)}


def test_a_new_machine_is_no_news(tmp_path: Path) -> None:
    """One is added to the fleet that offers other features than those that were there, and one leaves it."""
    newcomer = {**HEALTHY, **offered(YIELD, 1)}
    phases: list[Phase] = [
        (30, {"guest-2:10401": HEALTHY}),
        (60, {GUEST: newcomer, "guest-2:10401": HEALTHY}),
        (60, {GUEST: newcomer}),
    ]
    checks = dict.fromkeys(range(0, minutes(phases), 10), NONE)
    assert promtool_says(tmp_path, phases, checks, ignored=set()) == ""


@pytest.mark.parametrize(
    ("name", "metric"), [(name, metric) for name, metrics in METRICS.items() for metric in metrics]
)
def test_what_is_missing_is_no_answer(name: str, metric: str, tmp_path: Path) -> None:
    """The fault lacks one of the metrics that the alert reads: it is silent, unless the absence or another tells."""
    scene = SCENES[name]
    fleet = {instance: without(machine, metric) for instance, machine in scene.fault.items()}
    phases = [(10, all_of(scene, HEALTHY)), (wait(name) + 5, fleet)]
    firing = {name: scene.text} if (name, metric) in ABSENCE_IS_A_NO | ANOTHER_TELLS else NONE
    assert promtool_says(tmp_path, phases, {minutes(phases) - 1: firing}, ignored=RULES.keys() - {name}) == ""


def test_an_exporter_that_never_sampled_says_only_that(tmp_path: Path) -> None:
    """Not that its features are missing, or that KVM is."""
    firing = {"KvmExporterSampleFailing": SCENES["KvmExporterSampleFailing"].text}
    phases = [(180, one(UNSAMPLED))]
    assert promtool_says(tmp_path, phases, {60: firing, 179: firing}, ignored=set()) == ""


def test_what_is_recorded_of_a_fleet(tmp_path: Path) -> None:
    """Guests and their share by feature, machines by fingerprint, and how many fingerprints there are."""
    old, new = HEALTHY, {**HEALTHY, **offered(YIELD, 1), **shows("671fa1834330d3c4")}
    old_and_new = {key: value for key, value in new.items() if "a56f971aee6ec7ef" not in key}
    fleet = several((3, old), (1, old_and_new), (2, BARE), (1, DOWN))
    everywhere = [bit["feature"] for bit in (STEAL_TIME, STABLE, TLB_FLUSH, ASYNC_PF)]
    expected: dict[str, dict[str, float]] = {
        "cohort:kvm_present:sum": {"": 4},
        "cohort:kvm_feature_offered:sum": dict.fromkeys(everywhere, 4.0) | {"pv_sched_yield": 1},
        "cohort:kvm_feature_offered:share": dict.fromkeys(everywhere, 1.0) | {"pv_sched_yield": 0.25},
        "cohort_fingerprint:kvm_fingerprint_info:count": {"a56f971aee6ec7ef": 3, "671fa1834330d3c4": 1},
        "cohort:kvm_fingerprint_info:distinct": {"": 2},
        "cohort_fingerprint:kvm_fingerprint_info:share": {"a56f971aee6ec7ef": 0.75, "671fa1834330d3c4": 0.25},
    }
    assert promtool_tests(tmp_path, recording_test(fleet, expected)) == ""


def test_what_is_recorded_of_hosts(tmp_path: Path) -> None:
    """Hosts by what their KVM can offer; guests are not counted."""
    fleet = several((3, hosts("old")), (1, hosts("new")), (2, HEALTHY), (1, DOWN))
    expected: dict[str, dict[str, float]] = {"cohort_fingerprint:kvm_host_fingerprint_info:count": {"old": 3, "new": 1}}
    assert promtool_tests(tmp_path, recording_test(fleet, expected)) == ""


def test_what_is_recorded_of_drift(tmp_path: Path) -> None:
    """How many machines lost and gained each feature, and how many drifted in any way, each counted once."""
    lost = {**HEALTHY, **drifted(STEAL_TIME, -1)}
    both = {**lost, **drifted(YIELD, 1)}
    elsewhere = {**HEALTHY, "kvm_boot_signature_changed": 1}
    expected: dict[str, dict[str, float]] = {
        "cohort:kvm_boot_feature_changed:lost": {"steal_time": 2},
        "cohort:kvm_boot_feature_changed:gained": {"pv_sched_yield": 1},
        "cohort:kvm_boot_feature_changes:drifted": {"": 3},
    }
    fleet = several((3, HEALTHY), (1, lost), (1, both), (1, elsewhere), (1, BARE), (1, DOWN))
    assert promtool_tests(tmp_path, recording_test(fleet, expected)) == ""


def recording_test(fleet: Fleet, expected: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """What promtool is to check: the recorded series of a fleet, by name and by feature or fingerprint."""
    return {
        "interval": "1m",
        "input_series": input_series([(20, fleet)]),
        "promql_expr_test": [
            {
                "expr": name + (" > 0" if "kvm_feature_offered" in name else ""),
                "eval_time": "10m",
                "exp_samples": [
                    {"labels": recorded(name, labels), "value": value} for labels, value in by_label.items()
                ],
            }
            for name, by_label in expected.items()
        ],
    }


def recorded(name: str, label: str) -> str:
    """A recorded series by its feature or its fingerprint."""
    features = {feature["feature"]: feature for feature in (STEAL_TIME, STABLE, TLB_FLUSH, ASYNC_PF, YIELD)}
    labels = features.get(label) or ({"fingerprint": label} if label else {})
    return series(name, job="kvm", **labels).replace("'", '"')
