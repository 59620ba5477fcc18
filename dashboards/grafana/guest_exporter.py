"""The health of the exporter on a guest: how sampling goes, what it costs, and which exporter it is."""

from settings import OF_MACHINE

from grafana.board import Row
from grafana.queries import SHOWN, each
from grafana.series import Lines, Timeline
from grafana.tables import Column, Table
from grafana.values import ANSWERS, SUCCEEDS

AGE = f"""
max by ({OF_MACHINE}) (
  timestamp(kvm_exporter_sample_timestamp_seconds{{{SHOWN}}}) - kvm_exporter_sample_timestamp_seconds{{{SHOWN}}}
)
"""

STATES = Row(
    title="Exporter",
    height=6,
    panels=(
        Timeline(
            title="Scraped",
            description="Whether Prometheus could scrape the exporter.",
            queries={"up": each("up")},
            names="{{instance}}",
            values=ANSWERS,
        ),
        Timeline(
            title="Samples",
            description="Whether the last attempt to sample the CPUID leaves succeeded.",
            queries={"success": each("kvm_exporter_sample_success")},
            names="{{instance}}",
            values=SUCCEEDS,
        ),
        Timeline(
            title="Collectors",
            description=(
                "Whether the guest's own evidence, the host's view and the baseline's file could be had; the host's is "
                "absent where there is no /dev/kvm."
            ),
            queries={
                "collectors": each("kvm_exporter_collector_success", "collector"),
            },
            names="{{instance}} {{collector}}",
            values=SUCCEEDS,
        ),
    ),
)

SAMPLING = Row(
    height=8,
    panels=(
        Lines(
            title="Age of the sample",
            description="How old the sample was when it was scraped, against the age from which another is taken.",
            queries={
                "age": AGE,
                "limit": each("kvm_exporter_sample_max_age_seconds"),
            },
            names="{{instance}}",
            unit="s",
        ),
        Lines(
            title="Duration",
            description="How long the sample that is served took, and how long each collector took.",
            queries={
                "sample": each("kvm_exporter_sample_duration_seconds"),
                "collectors": (each("kvm_exporter_collector_duration_seconds", "collector")),
            },
            names="{{instance}} {{collector}}",
            unit="s",
        ),
        Lines(
            title="Samples by reason, and failures by cause",
            description="How often the leaves were sampled and why, how often that failed, or found a change.",
            queries={
                "samples": (
                    f"sum by ({OF_MACHINE}, reason) (rate(kvm_exporter_samples_total{{{SHOWN}}}[$__rate_interval]))"
                ),
                "failures": (
                    f"sum by ({OF_MACHINE}, cause) "
                    f"(rate(kvm_exporter_sample_failures_total{{{SHOWN}}}[$__rate_interval]))"
                ),
                "changes": (
                    f"sum by ({OF_MACHINE}) (rate(kvm_exporter_sample_changes_total{{{SHOWN}}}[$__rate_interval]))"
                ),
            },
            names="{{instance}} {{reason}}{{cause}}",
            unit="cps",
        ),
    ),
)

COST = Row(
    height=8,
    panels=(
        Lines(
            title="Memory",
            description="Resident memory of the exporter's process.",
            queries={"resident": each("process_resident_memory_bytes")},
            names="{{instance}}",
            unit="bytes",
        ),
        Lines(
            title="CPU time",
            description="Seconds of CPU time that the exporter's process takes each second.",
            queries={
                "cpu": f"max by ({OF_MACHINE}) (rate(process_cpu_seconds_total{{{SHOWN}}}[$__rate_interval]))",
            },
            names="{{instance}}",
            unit="percentunit",
        ),
        Lines(
            title="File descriptors",
            description="Open file descriptors of the exporter's process, against its limit.",
            queries={
                "open": each("process_open_fds"),
                "limit": each("process_max_fds"),
            },
            names="{{instance}}",
            unit="none",
        ),
    ),
)

VERSION = Row(
    height=7,
    panels=(
        Table(
            title="Version",
            description="Which exporter runs, since when, and on what.",
            queries={
                "build": f"""
max by ({OF_MACHINE}, version, revision, python_version, prometheus_client_version) (
  kvm_exporter_build_info{{{SHOWN}}}
)
""",
                "start": each("process_start_time_seconds") + " * 1000",
            },
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="version", title="Version"),
                Column(field="revision", title="Revision"),
                Column(field="python_version", title="Python"),
                Column(field="prometheus_client_version", title="prometheus_client"),
                Column(field="Value #start", title="Started", unit="dateTimeAsIso"),
            ),
            sort=("Machine",),
            width=14,
        ),
        Table(
            title="Web configuration",
            description="Whether the web configuration in use is what its files say; empty where there is none.",
            queries={
                "successful": each("kvm_exporter_web_config_last_reload_successful"),
                "read": (each("kvm_exporter_web_config_last_reload_timestamp_seconds") + " * 1000"),
            },
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="Value #successful", title="In use", words=SUCCEEDS),
                Column(field="Value #read", title="Read", unit="dateTimeAsIso"),
            ),
            sort=("Machine",),
            width=10,
        ),
    ),
)
