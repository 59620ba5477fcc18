"""The health of the exporter on a guest, its cost and its version: a section of the dashboard *KVM guest*."""

from labels import OF_MACHINE, labels

from grafana.board import Row, Section
from grafana.queries import SCRAPED, SHOWN, each
from grafana.series import Lines, Timeline
from grafana.tables import Column, Table
from grafana.values import ANSWERS, SUCCEEDS, filled

AGE = f"""
max by ({OF_MACHINE}) (
  timestamp(kvm_exporter_sample_timestamp_seconds{{{SHOWN}}}) - kvm_exporter_sample_timestamp_seconds{{{SHOWN}}}
)
"""


def of_process(expression: str) -> str:
    """Return an expression: a number of each exporter's process; another job may have a target of the same name."""
    return f"max by ({OF_MACHINE}) ({expression} and on ({OF_MACHINE}) kvm_exporter_build_info{{{SHOWN}}})"


def a_minute(counter: str, *by: str) -> str:
    """Return an expression: the increase of counters per minute, summed over the machines that are shown."""
    return f"sum by ({labels('job', *by)}) (60 * rate({counter}{{{SHOWN}}}[$__rate_interval]))"


STATES = (
    Row(
        height=6,
        panels=(
            Timeline(
                title="Scraped",
                description="Whether Prometheus could scrape the exporter.",
                queries={"up": SCRAPED},
                names="{{instance}}",
                values=filled(ANSWERS),
                empty="unknown: nothing is recorded",
            ),
        ),
    ),
    Row(
        height=6,
        panels=(
            Timeline(
                title="Samples",
                description="Whether the last attempt to sample the CPUID leaves succeeded.",
                queries={"success": each("kvm_exporter_sample_success")},
                names="{{instance}}",
                values=filled(SUCCEEDS),
                empty="unknown: nothing is scraped",
            ),
        ),
    ),
    Row(
        height=9,
        panels=(
            Timeline(
                title="Collectors",
                description=(
                    "Whether each collector succeeded: guest (evidence of the guest kernel), host (absent without "
                    "/dev/kvm) and baseline (its file)."
                ),
                queries={
                    "collectors": each("kvm_exporter_collector_success", "collector"),
                },
                names="{{collector}} {{instance}}",
                values=filled(SUCCEEDS),
                empty="unknown: nothing is scraped",
            ),
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
            description=(
                "Samples of all machines that are shown per minute, by trigger; failures by cause; and samples that "
                "show a change."
            ),
            queries={
                "samples": a_minute("kvm_exporter_samples_total", "reason"),
                "failures": a_minute("kvm_exporter_sample_failures_total", "cause"),
                "changes": a_minute("kvm_exporter_sample_changes_total"),
            },
            names="{{reason}}{{cause}}",
            unit="none",
        ),
    ),
)

COST = Row(
    height=8,
    panels=(
        Lines(
            title="Memory",
            description="Resident memory of the exporter's process.",
            queries={"resident": of_process(f"process_resident_memory_bytes{{{SHOWN}}}")},
            names="{{instance}}",
            unit="bytes",
        ),
        Lines(
            title="CPU time",
            description="The share of one CPU that the exporter's process uses.",
            queries={"cpu": of_process(f"rate(process_cpu_seconds_total{{{SHOWN}}}[$__rate_interval])")},
            names="{{instance}}",
            unit="percentunit",
        ),
        Lines(
            title="File descriptors",
            description="The share of the exporter's file descriptors that are open, of the most that it may open.",
            queries={"open": of_process(f"process_open_fds{{{SHOWN}}} / process_max_fds{{{SHOWN}}}")},
            names="{{instance}}",
            unit="percentunit",
        ),
    ),
)

SERVING = Row(
    height=8,
    panels=(
        Lines(
            title="Responses",
            description="HTTP responses of all machines that are shown per minute, by status code.",
            queries={"responses": a_minute("kvm_exporter_http_requests_total", "code")},
            names="{{code}}",
            unit="none",
        ),
        Lines(
            title="Connections",
            description="The open HTTP connections of each exporter.",
            queries={"open": each("kvm_exporter_http_connections")},
            names="{{instance}}",
            unit="none",
            counts=True,
        ),
        Lines(
            title="Dropped connections and log messages",
            description=(
                "Connections that the exporters of all machines that are shown ended, per minute and by reason, and "
                "log messages that nothing read in time."
            ),
            queries={
                "connections": a_minute("kvm_exporter_http_connections_dropped_total", "reason"),
                "log": a_minute("kvm_exporter_log_messages_dropped_total"),
            },
            names="{{reason}}",
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
                "start": of_process(f"process_start_time_seconds{{{SHOWN}}}") + " * 1000",
            },
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="version", title="Version", width=80),
                Column(field="revision", title="Revision", width=130),
                Column(field="python_version", title="Python", width=80),
                Column(field="prometheus_client_version", title="prometheus_client", width=150),
                Column(field="Value #start", title="Started", unit="dateTimeAsIso", width=160),
            ),
            sort=("Machine",),
            empty="Nothing is scraped.",
        ),
    ),
)

WEB = Row(
    height=7,
    panels=(
        Table(
            title="Web configuration",
            description=(
                "Whether the last reload of the web configuration succeeded, and the end of the certificate; empty "
                "without --web.config.file."
            ),
            queries={
                "successful": each("kvm_exporter_web_config_last_reload_successful"),
                "read": (each("kvm_exporter_web_config_last_reload_timestamp_seconds") + " * 1000"),
                "certificate": each("kvm_exporter_web_certificate_expiry_timestamp_seconds") + " * 1000",
            },
            columns=(
                Column(field="instance", title="Machine"),
                Column(field="Value #successful", title="Reload", words=SUCCEEDS, width=75),
                Column(field="Value #read", title="Last reload", unit="dateTimeAsIso", width=160),
                Column(
                    field="Value #certificate",
                    title="Certificate until",
                    unit="dateTimeAsIso",
                    absent="-",
                    width=160,
                ),
            ),
            sort=("Machine",),
            empty="No machine that is scraped has a web configuration.",
        ),
    ),
)

EXPORTER = Section(title="Exporter", rows=(*STATES, SAMPLING, SERVING, COST, VERSION, WEB))
