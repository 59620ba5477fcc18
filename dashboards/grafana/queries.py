"""PromQL expressions that several panels share: selections of machines, and their order."""

from labels import MACHINE, OF_BIT, OF_MACHINE, labels
from problems import WEIGHT
from settings import Settings

JOBS = 'job=~"$job"'
"""Matchers for recorded series of a cohort, which have no instance."""

SELECTED = 'job=~"$job", instance=~"$instance"'
"""Matchers for every selected machine: for aggregations, whose result is small."""

SHOWN = 'job=~"$job", instance=~"$machine"'
"""Matchers for the machines that panels show individually: the variable ``machine`` holds the result of ``notable``."""

SCRAPED = f"max by ({OF_MACHINE}) (up{{{SHOWN}}} and on (job) cohort:up:count{{{JOBS}}})"
"""An expression: whether each machine can be scraped; another job may have a target of the same name."""

FINGERPRINT_SHARE = f"cohort_fingerprint:kvm_fingerprint_info:share{{{JOBS}}}"
"""The share of each fingerprint in its cohort."""

MOST_ROWS = 200
"""The maximum number of rows in a table that could have one for each machine."""


def cohort_name(settings: Settings) -> str:
    """Return the name of a cohort in legends."""
    return " ".join(f"{{{{{label}}}}}" for label in settings.cohort)


def each(metric: str, *by: str, where: str = "") -> str:
    """Return an expression: a metric by machine and by the labels ``by``; ``where`` has more matchers."""
    matchers = f"{SHOWN}, {where}" if where else SHOWN
    return f"max by ({labels(*MACHINE, *by)}) ({metric}{{{matchers}}})"


def state_of_bits(machines: str) -> str:
    """Return an expression: -1 for lost bits, 2 for gained ones, else 1 for those that are offered and 0 for others."""
    return f"""
kvm_boot_feature_changed{{{machines}}} == -1
or on ({OF_BIT})
2 * (kvm_boot_feature_changed{{{machines}}} == 1)
or on ({OF_BIT})
kvm_feature_offered{{{machines}}}
""".strip()


def notable(most: int) -> str:
    """Return an expression: at most ``most`` of the selected machines, those with the worst problems first."""
    return f"""
topk({most},
  sum by ({OF_MACHINE}) ({WEIGHT}{{{SELECTED}}})
  or on ({OF_MACHINE})
  0 * max by ({OF_MACHINE}) (kvm_exporter_sample_success{{{SELECTED}}})
)
""".strip()


def switched_off(machines: str) -> str:
    """Return an expression: features that the hypervisor offers and a switch on the kernel's command line disables."""
    return f"""
kvm_feature_switched_off{{{machines}}} == 1
unless on ({OF_BIT}) kvm_unoffered_feature_in_use{{{machines}}}
""".strip()


def judged(machines: str) -> str:
    """Return an expression: 1 for each machine with a sample and a valid baseline."""
    return f"""
kvm_exporter_collector_success{{{machines}, collector="baseline"}} == 1
and on ({OF_MACHINE}) kvm_present{{{machines}}}
""".strip()


def in_order(expression: str, *by: str) -> str:
    """Return the expression with a label ``at``, by which Prometheus sorts series: the labels ``by``, register, bit."""
    bit = f'label_replace(label_replace({expression}, "at", "$1", "bit", "(..)"), "at", "0$1", "bit", "(.)")'
    names = ", ".join(f'"{name}"' for name in (*by, "register", "at"))
    return f'label_join({bit}, "at", " ", {names})'
