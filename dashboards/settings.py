"""What a site may want to be different: what is compared, from where on it matters, and how to say which machine.

Change it here, and run ``make dashboards``.
"""

EXPORTERS = 'job="kvm"'
"""The targets that are exporters, among everything that is scraped: Prometheus' own series about them say no more."""

COHORT = ("job",)
"""The labels of a target, ``job`` among them, that machines share which ought to offer the same."""

MACHINE = ("job", "instance")
"""The labels of a target that tell one machine from all others."""

DOWN_SHARE = 0.1
DOWN_FEWEST = 3
"""From which share of a job on, and how many machines, it is no longer a matter of single machines."""

RARE_SHARE = 0.05
"""What a smaller share of a cohort offers is rare."""

STALE_AGES = 3
STALE_SECONDS = 60
"""So many maximum ages, and seconds more for a clock that is not quite right, make a sample stale."""

DRIFT_KEPT = "15m"
"""How long an alert on drift outlives a machine's silence: a restart of the exporter is not the end of the drift."""

RUNBOOKS = "https://example.invalid/kvm-exporter/runbooks.md"
"""Where docs/runbooks.md can be read."""


def labels(*names: str) -> str:
    """A list of labels, each once."""
    return ", ".join(dict.fromkeys(names))


OF_COHORT = labels(*COHORT)
OF_FINGERPRINT = labels(*COHORT, "fingerprint")
OF_FEATURE = labels(*COHORT, "feature", "register", "bit")
OF_MACHINE = labels(*MACHINE)
OF_BIT = labels(*MACHINE, "register", "bit")
