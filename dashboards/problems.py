"""What can be wrong with a machine, the worst first: for the rule that ranks machines, and for the dashboards."""

from collections.abc import Callable
from dataclasses import dataclass

from labels import OF_BIT, OF_MACHINE
from rules.outcomes import CHANGED, LOSSES

from kvm_exporter.kvm.effects import Level

WEIGHT = "instance:kvm_problem:weight"
"""The recorded series: the weight of each problem that a machine has, with the label ``problem``."""

COUNT = "job:kvm_problem:count"
"""The recorded series: the number of machines that have a problem, by ``job`` and ``problem``."""

RANKED = "ranked:kvm_problem:weight"
"""The recorded series: WEIGHT, of no more machines than a setting says, those with the worst problems."""

RARE_SINCE = "instance:kvm_fingerprint_info:rare_since"
"""The recorded series: when the feature set of a machine was first seen to be rare in its cohort, in seconds."""

NOT_SAMPLED = "instance:up:unsampled"
"""The recorded series: the exporters that cannot be scraped, whose last sample failed, or that serve none."""

Rows = Callable[[str], str]
"""A function from matchers that select machines to an expression with a series for each machine, and maybe feature."""


def _of(series: str, matchers: str) -> str:
    return f"{series}{{{matchers}}}" if matchers else series


def _changed(matchers: str) -> str:
    return _of("kvm_boot_change_timestamp_seconds", matchers)


def _alerted(name: str) -> Rows:
    return lambda matchers: f'ALERTS_FOR_STATE{{{matchers}, alertname=~"{name}"}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem of a machine."""

    name: str
    rows: Rows
    #: An expression with at least one series for each machine that has the problem; by default, the rows of all.
    machines: str = ""
    #: The times since which machines have had the problem, in seconds; by default, the time of a change since boot.
    start: Rows = _changed
    action: str

    def since(self, matchers: str) -> str:
        """Return an expression: the time since which each machine has had the problem, in seconds."""
        return f"min by ({OF_MACHINE}) ({self.start(matchers)})"


def _firing(name: str) -> Rows:
    return lambda matchers: f'ALERTS{{{matchers}{", " if matchers else ""}alertname=~"{name}"}}'


def _lost(matchers: str) -> str:
    return f"{_of(CHANGED, matchers)} == -1"


def used_not_offered(matchers: str = "") -> str:
    """Return an expression: features that the kernel has enabled and is not offered, without those lost since boot."""
    return f"{_of('kvm_unoffered_feature_in_use', matchers)} == 1\nunless on ({OF_BIT}) {_lost(matchers)}"


def vanished(matchers: str = "") -> str:
    """Return an expression: machines without KVM's signature that lost features since boot."""
    return f"{_of('kvm_present', matchers)} == 0\nand on ({OF_MACHINE}) {_lost(matchers)}"


def _judged(level: Level, matchers: str = "") -> str:
    return f"{_of(LOSSES, matchers)} == {level:d}"


def _lost_otherwise(matchers: str) -> str:
    """Features that were lost, but for those that are known to be dangerous or harmless: without rules, all."""
    return f"{_lost(matchers)}\nunless on ({OF_BIT}) {_of(LOSSES, matchers)} != {Level.WARNING:d}"


def offered_to_some(matchers: str) -> str:
    """Return an expression: on how many CPUs a bit is set, for bits that some CPUs of a machine have and others not."""
    return f"""
kvm_feature_offered_cpus{{{matchers}}} > 0
< on ({OF_MACHINE}) group_left ()
sum by ({OF_MACHINE}) (kvm_cpus{{{matchers}, state=~"sampled|retained"}})
""".strip()


_OUT = "Take the machine out of service now. Migrate it back."
_BACK = "Migrate the machine back, or reboot it, not by kexec."

PROBLEMS = (
    Problem(
        name="KVM vanished",
        rows=vanished,
        action=_OUT,
    ),
    Problem(
        name="lost, dangerous",
        rows=lambda where: _judged(Level.CRITICAL, where),
        action=_OUT,
    ),
    Problem(
        name="lost",
        rows=_lost_otherwise,
        action=_BACK,
    ),
    Problem(
        name="used, not offered",
        rows=used_not_offered,
        start=_alerted("KvmFeatureUsedNotOffered"),
        action=_BACK,
    ),
    Problem(
        name="signature changed",
        rows=lambda where: f"{_of('kvm_boot_signature_changed', where)} == 1",
        action="Make hosts equal. Migrate back, or reboot, no kexec.",
    ),
    Problem(
        name="TSC frequency changed",
        rows=_firing("KvmTscFrequencyChanged"),
        start=_alerted("KvmTscFrequencyChanged"),
        action="Compare its clock. Migrate back, or reboot, no kexec.",
    ),
    Problem(
        name="CPUs differ",
        machines="kvm_cpus_divergent > 0",
        rows=lambda where: f"{offered_to_some(where)}\nor on ({OF_MACHINE})\nkvm_cpus_divergent{{{where}}} > 0",
        start=_alerted("KvmCpusDiffer"),
        action="Stop it and start it again; a reboot is not enough.",
    ),
    Problem(
        name="required, not offered",
        machines="kvm_baseline_violation == -1",
        # A bit that was lost has a row, which says what to do first, unless its loss alone would be harmless.
        rows=lambda where: f"""
kvm_baseline_violation{{{where}}} == -1
unless on ({OF_BIT})
({_lost(where)} unless on ({OF_BIT}) {_judged(Level.NOTE, where)})
""".strip(),
        start=_alerted("KvmFeatureMissing"),
        action="Enable it in the CPU definition, or correct the baseline.",
    ),
    Problem(
        name="forbidden, offered",
        rows=lambda where: f"{_of('kvm_baseline_violation', where)} == 1",
        start=_alerted("KvmFeatureForbidden"),
        action="Disable it in the CPU definition, or correct the baseline.",
    ),
    Problem(
        name="clock not stable",
        rows=_firing("KvmClockUnstable"),
        start=_alerted("KvmClockUnstable"),
        action="Check that the clocksource of the host is tsc.",
    ),
    Problem(
        name="not sampled",
        rows=lambda where: _of(NOT_SAMPLED, where),
        start=_alerted("KvmExporterDown|KvmExporterSampleFailing"),
        action="Check its exporter; its state is unknown.",
    ),
    Problem(
        name="gained",
        machines="kvm_boot_feature_changed == 1",
        rows=lambda where: (
            f"kvm_boot_feature_changed{{{where}}} == 1\nunless on ({OF_BIT}) kvm_baseline_violation{{{where}}} == 1"
        ),
        action="Finish the roll-out. Risky features need a reboot.",
    ),
    Problem(
        name="lost, harmless",
        machines=_judged(Level.NOTE),
        rows=lambda where: (
            f"{_judged(Level.NOTE, where)}\nunless on ({OF_BIT}) kvm_baseline_violation{{{where}}} == -1"
        ),
        action="Nothing on the machine. Find out why hosts differ.",
    ),
    Problem(
        name="rare",
        rows=lambda where: _of(RARE_SINCE, where),
        start=lambda where: _of(RARE_SINCE, where),
        action="Check the host of the machine.",
    ),
)
"""Every problem, the worst first."""

WEIGHTS = {problem.name: 2 ** (len(PROBLEMS) - 1 - place) for place, problem in enumerate(PROBLEMS)}
"""Each weighs more than all that come after it together."""


def recorded() -> str:
    """Return the expression of WEIGHT."""
    return _union(lambda problem: f"max by ({OF_MACHINE}) ({problem.machines or problem.rows('')})")


def listed(matchers: str) -> str:
    """Return an expression: the weight of each problem of the machines that ``matchers`` select, by feature."""
    return _union(lambda problem: f"max by ({OF_MACHINE}, feature) (\n{problem.rows(matchers)}\n)")


def begun(matchers: str) -> str:
    """Return an expression: the time in milliseconds since which there has been each problem that is listed."""
    return "\nor\n".join(
        _named(
            problem,
            f"1000 * (0 * max by ({OF_MACHINE}, feature) (\n{problem.rows(matchers)}\n)"
            f" + on ({OF_MACHINE}) group_left () {problem.since(matchers)})",
        )
        for problem in PROBLEMS
    )


def _union(of: Callable[[Problem], str]) -> str:
    weighed = ((problem, WEIGHTS[problem.name]) for problem in PROBLEMS)
    return "\nor\n".join(_named(problem, f"clamp({of(problem)}, {weight}, {weight})") for problem, weight in weighed)


def _named(problem: Problem, expression: str) -> str:
    return f'label_replace({expression}, "problem", "{problem.name}", "", "")'
