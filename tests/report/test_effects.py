"""The table of effects as people read it: every verdict of ``compare`` on it, and docs/effects.md.

``make golden`` writes the texts again: read git diff before it is committed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from kvm_exporter.kvm.drift import Difference
from kvm_exporter.kvm.effects import NOTHING, Level, action, effects, level, weight
from kvm_exporter.kvm.features import FEATURES, feature_named
from kvm_exporter.kvm.leaves import Leaves, SignatureLeaf, Timing
from kvm_exporter.kvm.migration import Side, compare
from kvm_exporter.kvm.outcomes import GAINED, LOST, Change, Circumstance, Outcome, Severity
from kvm_exporter.kvm.processor import Processor
from kvm_exporter.report.comparison import comparison_text
from kvm_exporter.report.effects import severity_words
from lab.readers import guest, kvm_of, sample_of
from lab.tree import REPOSITORY
from tests.support.rooms.golden import hold_against

VERDICTS = REPOSITORY / "tests" / "golden" / "effects" / "verdicts.txt"
PAGE = REPOSITORY / "docs" / "effects.md"
README = REPOSITORY / "README.md"

EVERYTHING = tuple(feature.name for feature in FEATURES if feature.register == "eax")
"""All features, without the hint: it makes a kernel leave others unused."""


def having(*names: str, base: int = 0x4000_0000) -> Leaves:
    """Return leaves that offer these features."""
    features = [feature_named(name) for name in names]
    eax, edx = (sum(one.mask for one in features if one.register == register) for register in ("eax", "edx"))
    return guest(eax, edx, base=base)


def less(names: tuple[str, ...], *lost: str) -> tuple[str, ...]:
    """Return the names without some."""
    return tuple(name for name in names if name not in lost)


def move(source: Leaves, target: Leaves, *, vendor: str | None = None) -> str:
    """Return what ``compare`` says about a move, without the two machines, and its exit codes."""
    sides = (Side(sample_of({0: source}), Processor("GenuineIntel")), Side(sample_of({0: target}), Processor(vendor)))
    found = compare(*sides)
    lines = comparison_text(found).splitlines()[2:]
    codes = f"exit {0 if found.compatible else 1}, with --strict {1 if not found.compatible or found.warnings else 0}"
    return "\n".join([*lines, codes])


def timed(khz: int) -> Leaves:
    """Return leaves with everything and a TSC frequency."""
    leaves = having(*EVERYTHING)
    return replace(leaves, kvm=replace(kvm_of(leaves), timing=Timing(khz, 0)))


def losing(boot: tuple[str, ...], *lost: str) -> tuple[Leaves, Leaves]:
    """Return the two sides of a move on which features are lost."""
    return having(*boot), having(*less(boot, *lost))


HYPER_V = SignatureLeaf(0x4000_0000, b"Microsoft Hv", 0x4000_000C)

PAIRS: Mapping[str, tuple[Leaves, Leaves]] = {
    "steal_time lost, pv_tlb_flush never offered": losing(less(EVERYTHING, "pv_tlb_flush"), "steal_time"),
    "steal_time and pv_tlb_flush lost": losing(EVERYTHING, "steal_time", "pv_tlb_flush"),
    "async_pf lost, async_pf_int never offered": losing(less(EVERYTHING, "async_pf_int"), "async_pf"),
    "async_pf_int lost, async_pf never offered": losing(less(EVERYTHING, "async_pf"), "async_pf_int"),
    "async_pf_int without async_pf, moved to its like": losing(less(EVERYTHING, "async_pf")),
    "async_pf_int without async_pf, and async_pf gained": (having(*less(EVERYTHING, "async_pf")), having(*EVERYTHING)),
    "migration_control without hc_map_gpa_range, moved to its like": losing(less(EVERYTHING, "hc_map_gpa_range")),
    "async_pf and async_pf_int lost": losing(EVERYTHING, "async_pf", "async_pf_int"),
    "pv_tlb_flush lost, steal_time never offered": losing(less(EVERYTHING, "steal_time"), "pv_tlb_flush"),
    "pv_sched_yield lost, steal_time never offered": losing(less(EVERYTHING, "steal_time"), "pv_sched_yield"),
    "clocksource lost, clocksource2 never offered": losing(less(EVERYTHING, "clocksource2"), "clocksource"),
    "clocksource and clocksource2 lost": losing(EVERYTHING, "clocksource", "clocksource2"),
    "hints_realtime lost beside pv_unhalt": losing((*EVERYTHING, "hints_realtime"), "hints_realtime"),
    "hints_realtime lost without pv_unhalt": losing(
        less((*EVERYTHING, "hints_realtime"), "pv_unhalt"), "hints_realtime"
    ),
    "pv_unhalt lost beside hints_realtime": losing((*EVERYTHING, "hints_realtime"), "pv_unhalt"),
    "KVM at another base": (having(*EVERYTHING), having(*EVERYTHING, base=0x4000_0100)),
    "Hyper-V before KVM": (
        having("clocksource2"),
        replace(
            having("clocksource2", base=0x4000_0100),
            hypervisors=(HYPER_V, *having("clocksource2", base=0x4000_0100).hypervisors),
        ),
    ),
    "KVM hidden": (having("clocksource2", "steal_time", "pv_tlb_flush"), Leaves(hypervisor_bit=True)),
    "an unassigned bit lost": (guest(1 << 30), guest(0)),
    "an unassigned bit gained": (guest(0), guest(1 << 30)),
    "the TSC at half the frequency": (timed(2_600_000), timed(1_300_000)),
}


def verdicts() -> Iterator[str]:
    """Yield a paragraph for each single-bit loss, each single-bit gain, and each pair."""
    yield "Each feature lost by a guest that booted with all of them (with the hint where it is the one that is lost)."
    for feature in FEATURES:
        boot = (*EVERYTHING, feature.name) if feature.register == "edx" else EVERYTHING
        yield move(*losing(boot, feature.name), vendor="GenuineIntel")
    yield "Each feature gained by a guest that booted with all others."
    for feature in FEATURES:
        boot = EVERYTHING if feature.register == "edx" else less(EVERYTHING, feature.name)
        yield move(having(*boot), having(*boot, feature.name), vendor="GenuineIntel")
    yield "Pairs, and what is no feature."
    for name, sides in PAIRS.items():
        yield f"# {name}\n{move(*sides, vendor='GenuineIntel')}"
    yield f"# another vendor\n{move(having(*EVERYTHING), having(*EVERYTHING), vendor='AuthenticAMD')}"


def conditions(outcome: Outcome) -> str:
    """Return on what an outcome depends, in words."""
    words = {"usual": "QEMU's defaults", "untold": "not told by the leaves", "later": "later", "unusual": "unusual"}
    found = [words[outcome.circumstance.name.lower()]]
    found += [f"with `{outcome.offered}`"] if outcome.offered else []
    found += [f"without `{outcome.absent}`"] if outcome.absent else []
    return ", ".join(found)


def table(outcomes: Mapping[str, tuple[Outcome, ...]]) -> Iterator[str]:
    """Yield the rows of a table of the page."""
    yield "| feature | when | severity | move | level | what a running guest does | source |"
    yield "|---|---|---|---|---|---|---|"
    for name, rows in outcomes.items():
        feature = feature_named(name)
        for number, row in enumerate(rows):
            first = f"`{name}` ({feature.register} {feature.bit})" if number == 0 else ""
            cells = [severity_words(row.severity), weight(row).name.lower(), level(row).name.lower()]
            yield f"| {first} | {conditions(row)} | {' | '.join(cells)} | {row.text} | {row.source} |"


def actions() -> Iterator[str]:
    """Yield the rows of the table of what is to be done."""
    yield "| a feature was | level | do |"
    yield "|---|---|---|"
    changes: tuple[Change, Change] = ("lost", "gained")
    for change in changes:
        for one in (Level.CRITICAL, Level.WARNING, Level.NOTE):
            if one is Level.NOTE or action(change, one) != NOTHING:
                yield f"| {change} | {one.name.lower()} | {action(change, one)} |"


LOST_IN_SHORT = {
    Severity.HARMLESS: "nothing",
    Severity.UNKNOWN: "unknown",
    Severity.SLOWER: "slower",
    Severity.TIME_DRIFTS: "time drifts",
    Severity.STALLS: "tasks, CPUs or devices stall",
    Severity.CORRUPTS: "programs use memory that was taken away",
}


def in_short() -> Iterator[str]:
    """Yield the rows of README.md: each feature, and the worst to expect where a guest with all others loses it."""
    yield "| feature | bit | meaning | lost |"
    yield "|---|---|---|---|"
    for feature in FEATURES:
        boot = (*EVERYTHING, feature.name) if feature.register == "edx" else EVERYTHING
        [effect] = effects(Difference((feature,)), having(*boot))
        worst = LOST_IN_SHORT[effect.severity]
        usual = [one.severity for one in effect.outcomes if one.circumstance is Circumstance.USUAL]
        words = worst if effect.severity in (Severity.HARMLESS, *usual) else f"may: {worst}"
        words += ", unless the VMM or the guest is unusual" * (effect.severity < effect.worst and not effect.severity)
        yield f"| `{feature.name}` | {feature.register} {feature.bit} | {feature.meaning} | {words} |"


def generated(page: str, tables: Mapping[str, Iterator[str]]) -> str:
    """Return a page with its tables as the code has them: each follows its heading and ends at an empty line."""
    for heading, rows in tables.items():
        before, _, rest = page.partition(f"## {heading}\n")
        words, _, rest = rest.partition("\n| ")
        after = rest.partition("\n\n")[2]
        page = f"{before}## {heading}\n{words}\n" + "\n".join(rows) + ("\n\n" + after if after else "\n")
    return page


def test_every_verdict_on_a_single_bit_and_on_pairs() -> None:
    """The golden text is for a kernel developer to read and to sign."""
    hold_against(VERDICTS, "\n\n".join(verdicts()) + "\n")


def test_the_page_says_what_the_table_says() -> None:
    """docs/effects.md has every row of the code, and no other."""
    tables = {"What to do": actions(), "Lost": table(LOST), "Gained": table(GAINED)}
    hold_against(PAGE, generated(PAGE.read_text(encoding="utf-8"), tables))


def test_the_readme_says_it_in_short() -> None:
    """README.md has a row for each feature."""
    hold_against(README, generated(README.read_text(encoding="utf-8"), {"What each feature does": in_short()}))
