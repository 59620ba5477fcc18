"""A rule of either kind, and the templates of labels that the texts of alerts share."""

from dataclasses import dataclass

THIS = "{{ $labels.instance }}"
JOB = "{{ $labels.job }}"
NAME = "{{ $labels.feature }}"
FEATURE = f"{NAME} ({{{{ $labels.register }}}} bit {{{{ $labels.bit }}}})"
VALUE = "{{ $value }}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A recording rule: a series that Prometheus computes and stores."""

    name: str
    expression: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alerting rule; docs/runbooks.md has a section with its name."""

    name: str
    expression: str
    wait: str
    #: How long the alert outlasts a time without samples, such as a failed scrape or a restart of the exporter.
    kept: str | None = None
    severity: str
    summary: str
    description: str

    @property
    def of_machine(self) -> bool:
        """Whether there is one alert for each machine, in place of one for a cohort."""
        return THIS in self.summary


Rule = Recording | Alert
