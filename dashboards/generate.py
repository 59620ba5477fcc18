"""``generate.py [FOLDER]``: write rules, alerts and what Grafana reads, beside this file or into another folder.

What a site may want to be different stands in settings.py. The rules know nothing of the exporter but the names of its
metrics.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from grafana.fleet import FLEET
from grafana.guest import GUEST
from grafana.provisioning import alerting, dashboard_provider, data_source
from settings import (
    DOWN_FEWEST,
    DOWN_SHARE,
    DRIFT_KEPT,
    EXPORTERS,
    OF_BIT,
    OF_COHORT,
    OF_FEATURE,
    OF_FINGERPRINT,
    OF_MACHINE,
    RARE_SHARE,
    RUNBOOKS,
    STALE_AGES,
    STALE_SECONDS,
)

HEADER = "# Written by dashboards/generate.py. What to change stands in settings.py there; then run make dashboards.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A series that Prometheus computes and keeps."""

    name: str
    expression: str

    def rule(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {"record": self.name, "expr": self.expression.strip()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that people should know; the runbook has a section with its name."""

    name: str
    expression: str
    wait: str
    kept: str | None = None
    severity: str
    summary: str
    description: str

    def rule(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expression.strip(),
            "for": self.wait,
            **({"keep_firing_for": self.kept} if self.kept else {}),
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{RUNBOOKS}#{self.name.lower()}",
            },
        }


THIS = "{{ $labels.instance }}"
JOB = "{{ $labels.job }}"
NAME = "{{ $labels.feature }}"
FEATURE = f"{NAME} ({{{{ $labels.register }}}} bit {{{{ $labels.bit }}}})"
VALUE = "{{ $value }}"

RECORDINGS = (
    Recording(name="cohort:kvm_present:sum", expression=f"sum by ({OF_COHORT}) (kvm_present)"),
    Recording(name="cohort:kvm_feature_offered:sum", expression=f"sum by ({OF_FEATURE}) (kvm_feature_offered)"),
    Recording(
        name="cohort:kvm_feature_offered:share",
        expression=f"""
cohort:kvm_feature_offered:sum
/ on ({OF_COHORT}) group_left ()
(cohort:kvm_present:sum > 0)
""",
    ),
    Recording(
        name="cohort_fingerprint:kvm_fingerprint_info:count",
        expression=f"count by ({OF_FINGERPRINT}) (kvm_fingerprint_info)",
    ),
    Recording(
        name="cohort:kvm_fingerprint_info:distinct",
        expression=f"count by ({OF_COHORT}) (cohort_fingerprint:kvm_fingerprint_info:count)",
    ),
    Recording(
        name="cohort_fingerprint:kvm_fingerprint_info:share",
        expression=f"""
cohort_fingerprint:kvm_fingerprint_info:count
/ on ({OF_COHORT}) group_left ()
sum by ({OF_COHORT}) (cohort_fingerprint:kvm_fingerprint_info:count)
""",
    ),
    Recording(
        name="cohort:kvm_boot_feature_changed:lost",
        expression=f"count by ({OF_FEATURE}) (kvm_boot_feature_changed == -1)",
    ),
    Recording(
        name="cohort:kvm_boot_feature_changed:gained",
        expression=f"count by ({OF_FEATURE}) (kvm_boot_feature_changed == 1)",
    ),
    Recording(
        name="cohort:kvm_boot_feature_changes:drifted",
        expression=f"""
sum by ({OF_COHORT}) (
  sum without (change) (kvm_boot_feature_changes) + kvm_boot_signature_changed > bool 0
)
""",
    ),
)

EXPORTER_ALERTS = (
    Alert(
        name="KvmExporterDown",
        expression=f"up{{{EXPORTERS}}} == 0",
        wait="10m",
        severity="warning",
        summary=f"The exporter on {THIS} cannot be scraped",
        description=f"Nothing is known of what the hypervisor offers {THIS}, and no other alert on it can fire.",
    ),
    Alert(
        name="KvmExportersDown",
        expression=f"""
avg by (job) (up{{{EXPORTERS}}}) <= {1 - DOWN_SHARE}
and on (job)
count by (job) (up{{{EXPORTERS}}} == 0) >= {DOWN_FEWEST}
""",
        wait="10m",
        severity="critical",
        summary=f"Many exporters of {JOB} cannot be scraped",
        description=f"Only {{{{ $value | humanizePercentage }}}} of the exporters of {JOB} answer.",
    ),
    Alert(
        name="KvmExporterSampleFailing",
        expression="kvm_exporter_sample_success == 0",
        wait="5m",
        severity="warning",
        summary=f"The KVM CPUID leaves of {THIS} cannot be sampled",
        description=f"{THIS} serves the last good sample, if there was one. The exporter's log says what is wrong.",
    ),
    Alert(
        name="KvmExporterSampleStale",
        expression=f"""
timestamp(kvm_exporter_sample_timestamp_seconds) - kvm_exporter_sample_timestamp_seconds
> {STALE_AGES} * (kvm_exporter_sample_max_age_seconds > 0) + {STALE_SECONDS}
""",
        wait="5m",
        severity="warning",
        summary=f"The sample of {THIS} is too old",
        description=(
            f"The sample that {THIS} serves was {{{{ $value | humanizeDuration }}}} old when it was scraped, by the "
            "machine's clock and Prometheus'."
        ),
    ),
    Alert(
        name="KvmExporterWebConfigReloadFailing",
        expression="kvm_exporter_web_config_last_reload_successful == 0",
        wait="5m",
        severity="warning",
        summary=f"The exporter on {THIS} cannot use its new web configuration",
        description=(
            f"{THIS} goes on with the last good web configuration: a certificate that was to be replaced is still "
            "served."
        ),
    ),
    Alert(
        name="KvmExporterBaselineReloadFailing",
        expression='kvm_exporter_collector_success{collector="baseline"} == 0',
        wait="5m",
        severity="warning",
        summary=f"The exporter on {THIS} cannot use its new baseline",
        description=(
            f"{THIS} is still judged by the last good baseline: what the new one requires and forbids is not looked at."
        ),
    ),
)

DRIFT_ALERTS = (
    Alert(
        name="KvmVanished",
        expression=f"""
kvm_present == 0
and on ({OF_MACHINE})
kvm_boot_feature_changes{{change="lost"}} > 0
""",
        wait="1m",
        kept=DRIFT_KEPT,
        severity="critical",
        summary=f"KVM is gone from {THIS}",
        description=f"KVM offered {THIS} features when this boot was first sampled; now its signature is not there.",
    ),
    Alert(
        name="KvmSignatureChanged",
        expression="kvm_boot_signature_changed == 1",
        wait="2m",
        kept=DRIFT_KEPT,
        severity="warning",
        summary=f"{THIS} finds other hypervisor signatures than at boot",
        description=(
            f"A hypervisor's signature, or the base of its leaves, is not what it was when this boot of {THIS} was "
            "first sampled."
        ),
    ),
    Alert(
        name="KvmFeatureLost",
        expression="max without (signature) (kvm_boot_feature_changed == -1)",
        wait="2m",
        kept=DRIFT_KEPT,
        severity="warning",
        summary=f"{THIS} lost {NAME}",
        description=(
            f"The hypervisor offered {THIS} {FEATURE} when this boot was first sampled, and does not offer it now. The "
            "kernel goes on using what it found at boot."
        ),
    ),
    Alert(
        name="KvmFeatureGained",
        expression=f"count by ({OF_FEATURE}) (kvm_boot_feature_changed == 1)",
        wait="15m",
        kept=DRIFT_KEPT,
        severity="info",
        summary=f"{VALUE} machines of {JOB} gained {NAME}",
        description=(
            f"{VALUE} running machines of {JOB} are offered {FEATURE}, which they were not offered "
            "at boot. They use it from their next boot on."
        ),
    ),
    Alert(
        name="KvmCpusDiffer",
        expression="kvm_cpus_divergent > 0",
        wait="3m",
        severity="warning",
        summary=f"CPUs of {THIS} are offered different features",
        description=f"{VALUE} CPUs of {THIS} are offered something else than the others.",
    ),
)

FLEET_ALERTS = (
    Alert(
        name="KvmFingerprintRare",
        expression=f"""
max without (fingerprint) (
  kvm_fingerprint_info
  and on ({OF_FINGERPRINT})
  cohort_fingerprint:kvm_fingerprint_info:share < {RARE_SHARE}
)
""",
        wait="1h",
        severity="warning",
        summary=f"{THIS} is offered something else than nearly all others of {JOB}",
        description=f"What {THIS} is offered, less than {RARE_SHARE:.0%} of {JOB} are.",
    ),
    Alert(
        name="KvmFleetMixed",
        expression=f"count by ({OF_COHORT}) (cohort_fingerprint:kvm_fingerprint_info:share >= {RARE_SHARE}) > 1",
        wait="30m",
        severity="info",
        summary=f"{JOB} is a mixed fleet",
        description=(
            f"{VALUE} different offers have at least {RARE_SHARE:.0%} of {JOB} each: the hosts are "
            "being changed, or were not changed alike."
        ),
    ),
)

JUDGED = "instance:kvm_feature_offered:judged"

INTENT_ALERTS = (
    # In one look over every bit of every machine what three alerts need of it: a fleet has many.
    Recording(
        name=JUDGED,
        expression=f"""
kvm_feature_offered
and on ({OF_BIT})
(kvm_feature_expected or kvm_feature_in_use == 0)
""",
    ),
    Alert(
        name="KvmFeatureMissing",
        expression=f"""
kvm_feature_expected == 1
and on ({OF_MACHINE}) kvm_present
unless on ({OF_BIT}) {JUDGED} == 1
""",
        wait="5m",
        severity="warning",
        summary=f"{THIS} is not offered {NAME}",
        description=f"The baseline of {THIS} requires {FEATURE}, and the hypervisor does not offer it.",
    ),
    Alert(
        name="KvmFeatureForbidden",
        expression=f"""
kvm_feature_expected == 0
and on ({OF_BIT}) {JUDGED} == 1
""",
        wait="5m",
        severity="warning",
        summary=f"{THIS} is offered {NAME}",
        description=f"The baseline of {THIS} forbids {FEATURE}, and the hypervisor offers it.",
    ),
    Alert(
        name="KvmFeatureSwitchedOff",
        expression=f"""
kvm_feature_in_use == 0
and on ({OF_BIT}) {JUDGED} == 1
""",
        wait="15m",
        severity="info",
        summary=f"{THIS} does not use {NAME}",
        description=f"The hypervisor offers {THIS} {FEATURE}, and a switch on the kernel's command line forbids it.",
    ),
    Alert(
        name="KvmClockUnstable",
        expression=f"""
kvm_clocksource_current_is_kvmclock == 1
and on ({OF_MACHINE}) kvm_present == 1
unless on ({OF_MACHINE}) kvm_feature_offered{{register="eax", bit="24"}} == 1
""",
        wait="5m",
        severity="warning",
        summary=f"The clock of {THIS} is kvm-clock, and not promised to be stable",
        description=(
            f"{THIS} reads its time from kvm-clock, and the hypervisor does not offer clocksource_stable_bit (eax bit "
            "24): time may differ between the CPUs, and reading it is slow."
        ),
    ),
)

RULES: Mapping[str, Mapping[str, Sequence[Recording | Alert]]] = {
    "rules.yaml": {"kvm-exporter-fleet": RECORDINGS},
    "alerts.yaml": {
        "kvm-exporter": EXPORTER_ALERTS,
        "kvm-drift": DRIFT_ALERTS,
        "kvm-fleet": FLEET_ALERTS,
        "kvm-intent": INTENT_ALERTS,
    },
}

DASHBOARDS = (FLEET, GUEST)


class Dumper(yaml.SafeDumper):
    """Writes text of several lines as such, and everything where it belongs."""

    def ignore_aliases(self, _: object) -> bool:
        """Nothing stands for what is written elsewhere."""
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """As a block where there is more than one line."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Dumper.add_representer(str, Dumper.represent_text)


def yaml_text(content: Mapping[str, Any]) -> str:
    """A file that people read, too."""
    return HEADER + yaml.dump(content, Dumper=Dumper, sort_keys=False, width=120)


def rule_groups(groups: Mapping[str, Sequence[Recording | Alert]]) -> dict[str, Any]:
    """A rule file, as Prometheus reads it."""
    return {"groups": [{"name": group, "rules": [rule.rule() for rule in rules]} for group, rules in groups.items()]}


def files() -> Iterator[tuple[str, str]]:
    """The path of each file, and its text."""
    for path, groups in RULES.items():
        yield path, yaml_text(rule_groups(groups))
    for dashboard in DASHBOARDS:
        yield f"{dashboard.uid}.json", dashboard.text()
    yield "provisioning/datasources/prometheus.yaml", yaml_text(data_source())
    yield "provisioning/dashboards/kvm.yaml", yaml_text(dashboard_provider())
    drift = [alert.rule() for alert in DRIFT_ALERTS]
    yield "provisioning/alerting/kvm-drift.yaml", yaml_text(alerting("kvm-drift", drift))


def main() -> None:
    """Write each file anew."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, text in files():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
