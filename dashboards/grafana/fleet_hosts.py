"""Hypervisor hosts, and exporters that refuse requests: sections of the dashboard *KVM fleet*."""

from labels import OF_MACHINE
from settings import Settings

from grafana.board import THIS_GUEST, Row, Section
from grafana.queries import JOBS, MOST_ROWS, SELECTED
from grafana.tables import Column, Table, cohort_columns
from grafana.values import BAD, ODD, ON_TSC


def hosts(settings: Settings) -> Section:
    """Return the section of hypervisor hosts."""
    return Section(
        title="Hosts",
        rows=(
            Row(
                height=8,
                panels=(
                    Table(
                        title="Hosts",
                        description=(
                            f"The machines with a /dev/kvm of their own; at most {MOST_ROWS}, those without a clock "
                            "source on the TSC first: no guest of theirs can have a stable kvmclock. Hosts with equal "
                            "fingerprints can offer the same features."
                        ),
                        queries={
                            "clock": f"""
bottomk({MOST_ROWS}, max by ({OF_MACHINE}) (kvm_host_clocksource_based_on_tsc{{{SELECTED}}}))
""",
                            "alike": f"""
bottomk({MOST_ROWS},
  max by ({OF_MACHINE}, fingerprint) (
    kvm_host_fingerprint_info{{{SELECTED}}}
    * on ({settings.of_fingerprint}) group_left () cohort_fingerprint:kvm_host_fingerprint_info:count{{{JOBS}}}
  )
)
""",
                        },
                        columns=(
                            Column(field="instance", title="Machine", link=THIS_GUEST),
                            Column(field="Value #clock", title="Clock source", words=ON_TSC, width=130),
                            Column(field="fingerprint", title="Can offer", width=165),
                            Column(field="Value #alike", title="Hosts alike", width=100),
                            *cohort_columns(settings),
                        ),
                        sort=("Clock source", "Hosts alike", "Machine"),
                        empty="No selected machine has /dev/kvm, or their exporters do not show it.",
                    ),
                ),
            ),
        ),
    )


def a_minute(counter: str, where: str = "") -> str:
    """Return an expression: the increase of counters of each machine, per minute."""
    return f"sum by ({OF_MACHINE}) (60 * rate({counter}{{{SELECTED}{where}}}[$__rate_interval]))"


SERVING = Section(
    title="Exporters",
    rows=(
        Row(
            height=8,
            panels=(
                Table(
                    title="Exporters that refuse requests",
                    description=(
                        "Exporters that respond with an error, drop connections or lose log messages: each per minute; "
                        f"at most {MOST_ROWS}."
                    ),
                    queries={
                        "refused": f"""
topk({MOST_ROWS}, {a_minute("kvm_exporter_http_requests_total", ', code=~"[45].."')} > 0)
""",
                        "dropped": f"""
topk({MOST_ROWS}, {a_minute("kvm_exporter_http_connections_dropped_total")} > 0)
""",
                        "log": f"""
topk({MOST_ROWS}, {a_minute("kvm_exporter_log_messages_dropped_total")} > 0)
""",
                    },
                    columns=(
                        Column(field="instance", title="Machine", link=THIS_GUEST),
                        Column(
                            field="Value #refused", title="Errors", thresholds=((0.001, ODD),), absent="-", width=90
                        ),
                        Column(
                            field="Value #dropped",
                            title="Dropped connections",
                            thresholds=((0.001, ODD),),
                            absent="-",
                            width=165,
                        ),
                        Column(
                            field="Value #log",
                            title="Lost log messages",
                            thresholds=((0.001, BAD),),
                            absent="-",
                            width=150,
                        ),
                        Column(field="job", title="Job", width=80),
                    ),
                    sort=("-Errors", "Machine"),
                    empty="No exporter that is scraped has refused a request.",
                ),
            ),
        ),
    ),
)
