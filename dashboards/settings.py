"""What a site may change in the rules and the dashboards. ``flags.py`` has a flag for each setting."""

from dataclasses import dataclass

from labels import labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings, with their defaults."""

    exporters: str = 'job="kvm"'
    """Matchers that select the exporters among all targets of Prometheus, for series such as ``up``."""

    cohort: tuple[str, ...] = ("job",)
    """The labels, ``job`` among them, that define a cohort: machines that should be offered the same feature set."""

    down_share: float = 0.1
    down_fewest: int = 3
    """KvmExportersDown fires if at least this share of a job's exporters, and at least this number, is down."""

    rare_share: float = 0.05
    """A feature set is rare if a smaller share of the cohort has it."""

    stale_ages: int = 3
    stale_seconds: int = 60
    """A sample is stale if it is older than stale_ages times its maximum age plus stale_seconds, for inexact clocks."""

    drift_kept: str = "15m"
    """How long an alert on drift outlasts a time without samples, such as a restart of the exporter."""

    ranked: int = 50
    """How many machines each Prometheus server ranks at most, those with the worst problems, for *KVM shards*."""

    shard_sources: str = "kvm-shard-"
    """What the names of Grafana's data sources for shards begin with; the value of the label ``shard`` follows."""

    certificate_days: int = 14
    """KvmExporterCertificateExpiring fires if the certificate of an exporter ends within this many days."""

    runbooks: str = ""
    """The URL of docs/runbooks.md for operators; if it is empty, each alert carries what its runbook says to do."""

    @property
    def of_cohort(self) -> str:
        """The labels of a cohort, as a list for PromQL."""
        return labels(*self.cohort)

    @property
    def of_fingerprint(self) -> str:
        """The labels of a feature set of a cohort."""
        return labels(*self.cohort, "fingerprint")

    @property
    def of_feature(self) -> str:
        """The labels of a feature of a cohort."""
        return labels(*self.cohort, "feature", "register", "bit")
