"""Settings of rules and dashboards that a site may change. After a change, run ``make dashboards``."""

EXPORTERS = 'job="kvm"'
"""Matchers that select the exporters among all targets of Prometheus, for series such as ``up``."""

COHORT = ("job",)
"""The labels, ``job`` among them, that define a cohort: machines that should be offered the same feature set."""

MACHINE = ("job", "instance")
"""The labels that identify one machine."""

DOWN_SHARE = 0.1
DOWN_FEWEST = 3
"""KvmExportersDown fires if at least this share of a job's exporters, and at least this number, is down."""

RARE_SHARE = 0.05
"""A feature set is rare if a smaller share of the cohort has it."""

STALE_AGES = 3
STALE_SECONDS = 60
"""A sample is stale if it is older than STALE_AGES times its maximum age plus STALE_SECONDS, for inexact clocks."""

DRIFT_KEPT = "15m"
"""How long an alert on drift keeps firing without data, so that a restart of the exporter does not resolve it."""

TSC_PPM = 250
"""Two TSC frequencies are equal if they differ by no more than this many parts per million, as for the exporter."""

LATE_SECONDS = 600
"""A boot reference that was taken later after the boot does not tell what the kernel found, as for the exporter."""

CERTIFICATE_DAYS = 14
"""KvmExporterCertificateExpiring fires if the certificate of an exporter ends within this many days."""

RUNBOOKS = ""
"""The URL at which operators read docs/runbooks.md; if it is empty, each alert carries what its runbook says to do."""


def labels(*names: str) -> str:
    """Return the names as a comma-separated list, each once."""
    return ", ".join(dict.fromkeys(names))


OF_COHORT = labels(*COHORT)
OF_FINGERPRINT = labels(*COHORT, "fingerprint")
OF_FEATURE = labels(*COHORT, "feature", "register", "bit")
OF_MACHINE = labels(*MACHINE)
OF_BIT = labels(*MACHINE, "register", "bit")
