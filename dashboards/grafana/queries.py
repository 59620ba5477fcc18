"""PromQL that more than one panel asks: which machines, how far they drifted, and which of them to show first."""

from settings import COHORT, MACHINE, OF_BIT, OF_FINGERPRINT, OF_MACHINE, labels

JOBS = 'job=~"$job"'
"""What the rules record of a cohort knows no machine."""

SELECTED = 'job=~"$job", instance=~"$instance"'
"""Every selected machine: for sums, which stay small."""

SHOWN = 'job=~"$job", instance=~"$machine"'
"""The few of the selected machines that are shown one by one: ``machine`` has those that ``notable`` finds."""

COHORT_NAME = " ".join(f"{{{{{label}}}}}" for label in COHORT)
"""A series of a cohort, as legends name it."""

FINGERPRINT_SHARE = f"cohort_fingerprint:kvm_fingerprint_info:share{{{JOBS}}}"
"""The share of each fingerprint in its cohort."""

MOST_ROWS = 200
"""Of a table that could have one for each machine; more nobody reads."""


def each(metric: str, *by: str, where: str = "") -> str:
    """A metric for each machine that is shown, and each value of some labels; ``where`` has more matchers."""
    matchers = f"{SHOWN}, {where}" if where else SHOWN
    return f"max by ({labels(*MACHINE, *by)}) ({metric}{{{matchers}}})"


def drift(machines: str) -> str:
    """How many bits of each machine, and whether its signature, are not what they were at boot."""
    return (
        f"sum by ({OF_MACHINE}) (kvm_boot_feature_changes{{{machines}}})"
        f" + max by ({OF_MACHINE}) (kvm_boot_signature_changed{{{machines}}})"
    )


def notable(most: int) -> str:
    """So many of the selected machines: first what drifted or differs, then what is down, then what is rare.

    Each has its place by one number: how many bits drifted and how many CPUs differ, 1 if it is down, else the share of
    its cohort that is offered something else.
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
    """What a baseline requires, and the hypervisor does not offer."""
    return f"""
kvm_feature_expected{{{machines}}} == 1
and on ({OF_MACHINE}) kvm_present{{{machines}}}
unless on ({OF_BIT}) kvm_feature_offered{{{machines}}} == 1
""".strip()


def forbidden(machines: str) -> str:
    """What a baseline forbids, and the hypervisor offers."""
    return f"""
kvm_feature_expected{{{machines}}} == 0
and on ({OF_BIT}) kvm_feature_offered{{{machines}}} == 1
""".strip()


def switched_off(machines: str) -> str:
    """What the hypervisor offers, and a switch on the kernel's command line forbids."""
    return f"""
kvm_feature_in_use{{{machines}}} == 0
and on ({OF_BIT}) kvm_feature_offered{{{machines}}} == 1
""".strip()
