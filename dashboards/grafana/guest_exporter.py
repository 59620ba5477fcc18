"""The health of the exporter on a guest, its cost and its version: rows of the dashboard *KVM guest*."""

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
                "Whether each collector succeeded: guest (evidence of the guest kernel), host (absent without "
                "/dev/kvm) and baseline (its file)."
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
            description="The age of the sample at each scrape, and the age above which a scrape takes a new sample.",
            queries={
                "age": AGE,
                "limit": each("kvm_exporter_sample_max_age_seconds"),
            },
            names="{{instance}}",
            unit="s",
        ),
        Lines(
            title="Duration",
            description="The duration of the served sample, and of each collector.",
            queries={
                "sample": each("kvm_exporter_sample_duration_seconds"),
                "collectors": (each("kvm_exporter_collector_duration_seconds", "collector")),
            },
            names="{{instance}} {{collector}}",
            unit="s",
        ),
        Lines(
            title="Samples by reason, and failures by cause",
            description="The rate of samples by trigger, of failures by cause, and of samples that show a change.",
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
            description="The share of one CPU that the exporter's process uses.",
            queries={
                "cpu": f"max by ({OF_MACHINE}) (rate(process_cpu_seconds_total{{{SHOWN}}}[$__rate_interval]))",
            },
            names="{{instance}}",
            unit="percentunit",
        ),
        Lines(
            title="File descriptors",
            description="The open file descriptors of the exporter's process, and its limit.",
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
            description="The version of the exporter, of Python and of prometheus_client, and the time of its start.",
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
            description="Whether the last reload of the web configuration succeeded; empty without --web.config.file.",
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
