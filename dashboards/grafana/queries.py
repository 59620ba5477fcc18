"""PromQL expressions that several panels share: selections of machines, drift, and findings."""

from settings import COHORT, MACHINE, OF_BIT, OF_FINGERPRINT, OF_MACHINE, labels

JOBS = 'job=~"$job"'
"""Matchers for recorded series of a cohort, which have no instance."""

SELECTED = 'job=~"$job", instance=~"$instance"'
"""Matchers for every selected machine: for aggregations, whose result is small."""

SHOWN = 'job=~"$job", instance=~"$machine"'
"""Matchers for the machines that panels show individually: the variable ``machine`` holds the result of ``notable``."""

COHORT_NAME = " ".join(f"{{{{{label}}}}}" for label in COHORT)
"""The name of a cohort in legends."""

FINGERPRINT_SHARE = f"cohort_fingerprint:kvm_fingerprint_info:share{{{JOBS}}}"
"""The share of each fingerprint in its cohort."""

MOST_ROWS = 200
"""The maximum number of rows in a table that could have one for each machine."""


def each(metric: str, *by: str, where: str = "") -> str:
    """Return an expression: a metric by machine and by the labels ``by``; ``where`` has more matchers."""
    matchers = f"{SHOWN}, {where}" if where else SHOWN
    return f"max by ({labels(*MACHINE, *by)}) ({metric}{{{matchers}}})"


def drift(machines: str) -> str:
    """Return an expression: the number of drifted bits of each machine, plus 1 if its signatures changed."""
    return (
        f"sum by ({OF_MACHINE}) (kvm_boot_feature_changes{{{machines}}})"
        f" + max by ({OF_MACHINE}) (kvm_boot_signature_changed{{{machines}}})"
    )


def notable(most: int) -> str:
    """Return an expression: at most ``most`` of the selected machines, those with problems first.

    Machines that drifted or have CPUs that differ come first, then machines that are down, then machines with a rare
    feature set. They are sorted by one number: the number of drifted bits and of CPUs that differ, else the share of
    the cohort with another feature set, which is below 1, else 1 if the machine is down.
    """
    return f"""
topk({most},
  ({drift(SELECTED)} + max by ({OF_MACHINE}) (kvm_cpus_divergent{{{SELECTED}}}) > 0)
  or on ({OF_MACHINE})
  max by ({OF_MACHINE}) (
    1 - kvm_fingerprint_info{{{SELECTED}}}
    * on ({OF_FINGERPRINT}) group_left ()
    {FINGERPRINT_SHARE}
  )
  or on ({OF_MACHINE})
  max by ({OF_MACHINE}) (up{{{SELECTED}}} == bool 0)
)
""".strip()


def missing(machines: str) -> str:
    """Return an expression: features that the baseline requires and the hypervisor does not offer."""
    return f"""
kvm_feature_expected{{{machines}}} == 1
and on ({OF_MACHINE}) kvm_present{{{machines}}}
unless on ({OF_BIT}) kvm_feature_offered{{{machines}}} == 1
""".strip()


def forbidden(machines: str) -> str:
    """Return an expression: features that the baseline forbids and the hypervisor offers."""
    return f"""
kvm_feature_expected{{{machines}}} == 0
and on ({OF_BIT}) kvm_feature_offered{{{machines}}} == 1
""".strip()


def switched_off(machines: str) -> str:
    """Return an expression: features that the hypervisor offers and a switch on the kernel's command line disables."""
    return f"""
kvm_feature_switched_off{{{machines}}} == 1
and on ({OF_BIT}) kvm_feature_offered{{{machines}}} == 1
""".strip()
