"""kvm_exporter.report.page: the landing page of machines in any state, escaping of foreign text, colour contrast."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter import __version__
from kvm_exporter.collector.boot import BootReference
from kvm_exporter.collector.conditions import Answer, Use
from kvm_exporter.collector.observer import Collected, Observation
from kvm_exporter.cpuid.registers import BASES
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.clock import PvClock
from kvm_exporter.kvm.effects import Level, action
from kvm_exporter.kvm.features import FEATURES, feature_at, feature_named
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Kvm, Leaves, SignatureLeaf, Timing
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.report.findings import findings
from kvm_exporter.report.kinds import GUEST_UNREAD, REFERENCE_VOLATILE
from kvm_exporter.report.page import HEADERS, STYLE, landing_page
from kvm_exporter.report.table import as_json, table
from lab.exporter import exporter
from lab.readers import guest, kvm_of, sample_of
from tests.support.rooms.outline import Outline
from tests.support.rooms.palettes import DARK, LIGHT

ALL, DEFAULT, OLD = guest(0x01007EFB), guest(0x0100007B), guest(0x0100000B)
BARE = Leaves(hypervisor_bit=False)
OTHER = Leaves(hypervisor_bit=True, hypervisors=(SignatureLeaf(0x40000000, b"VMwareVMware", 0x40000010),))
LINKS = {"Metrics": "/metrics", "Health": "/-/healthy"}
TAGS = frozenset(
    (
        *("html", "head", "meta", "title", "style", "body", "header", "nav", "main", "footer", "section", "div"),
        *("h1", "h2", "p", "span", "strong", "code", "time", "a", "ul", "li", "dl", "dt", "dd"),
        *("table", "caption", "thead", "tbody", "tr", "th", "td", "small"),
    )
)
"""All elements of a page: no scripts, no forms, nothing that is loaded."""


def observed(sample: Sample, boot: Leaves | None = None) -> Observation:
    """Return an observation, with or without a boot reference."""
    reference = BootReference(boot, 1704060000.0, 20.0) if boot is not None else None
    return Observation(sample, reference, persistent=True)


def late(observation: Observation, uptime: float | None) -> Observation:
    """Return an observation whose boot reference was taken late, or by a version that did not keep when."""
    assert observation.reference is not None
    return replace(observation, reference=replace(observation.reference, uptime=uptime))


def clocked(khz: int | None) -> Leaves:
    """Return a CPU with a timing leaf, or without one."""
    return replace(ALL, kvm=replace(kvm_of(ALL), timing=Timing(khz, 1_000_000) if khz is not None else None))


STEAL_TIME = feature_named("steal_time")
NOT_STEALING = guest(0x01007EDB)
STEALS, UNUSED = Use(Answer.BROKEN, "not offered now"), Use(Answer.NO, "one possible CPU")


def page_of(observation: Observation | None, baseline: Baseline | None = None, *, success: bool = True) -> Outline:
    """Return the page as loaded 125 s after the sample."""
    found = findings(observation, baseline, success=success)
    return Outline(landing_page(observation, found, LINKS, age=125.0))


def rows_of(page: Outline) -> dict[str, dict[str, str]]:
    """Return the cells of the feature table by feature and by the column's class."""
    found: dict[str, dict[str, str]] = {}
    cells: dict[str, str] = {}
    for tag, attributes, text in page.elements:
        if tag in {"th", "td"}:
            cells[attributes.get("class", "name").split(" ")[0]] = text
        elif tag == "tr":
            assert cells["name"] not in found
            found[cells["name"]] = cells
            cells = {}
        elif tag == "thead":
            found.clear()
    return found


TWO = sample_of({0: ALL, 1: ALL})
LOST = observed(sample_of({0: DEFAULT, 1: DEFAULT}), guest(0x010002FB))
HELD = "another task holds it"
TWO_FREQUENCIES = "TSC 2600.000 MHz in the pvclock page, 2601.000 MHz in the timing leaf"


FIXED = replace(observed(TWO, ALL), fixed_at_launch="sev-snp")


def test_leaves_that_cannot_show_drift_are_no_good_news() -> None:
    """Under SEV-SNP nothing has changed in the leaves, which says nothing: headline, table, show and JSON say so."""
    page = page_of(FIXED)
    assert page.texts("h1") == [
        "UNKNOWN Leaves fixed at launch (sev-snp), changes cannot be seen; KVM, all 2 CPUs alike"
    ]
    assert {cells["boot"] for cells in rows_of(page).values()} == {"?"}
    text = table(FIXED)
    assert "UNKNOWN: CPUID is answered from the launch's table" in text
    assert " -  " not in text
    found = json.loads(as_json(FIXED))["findings"]
    assert [(finding["kind"], finding["level"]) for finding in found] == [("fixed_at_launch", "unknown"), ("ok", "ok")]


@pytest.mark.parametrize(
    ("observation", "level", "headline", "details"),
    [
        (None, "CRITICAL", "No sample yet", ["CPUID has not been read successfully yet; see the log of the exporter."]),
        (observed(TWO), "OK", "KVM, all 2 CPUs alike", []),
        (observed(TWO, ALL), "OK", "KVM, all 2 CPUs alike, nothing changed since boot", []),
        (observed(sample_of({0: ALL}), ALL), "OK", "KVM, 1 CPU, nothing changed since boot", []),
        (observed(sample_of({0: ALL}, skipped=[1, 2])), "OK", "KVM, 1 of 3 CPUs sampled, all alike", []),
        (
            LOST,
            "WARNING",
            "2 features lost since boot",
            ["Lost since boot: pv_unhalt (eax bit 7), pv_tlb_flush (eax bit 9)"],
        ),
        (
            observed(TWO, guest(0x01007EFA)),
            "NOTE",
            "1 feature gained since boot; KVM, all 2 CPUs alike",
            ["Gained since boot: clocksource (eax bit 0)"],
        ),
        (
            observed(TWO, guest(0x01007EFB, base=0x40000100)),
            "WARNING",
            "Hypervisor changed since boot",
            ["Since boot: KVMKVMKVM at 0x40000000 instead of KVMKVMKVM at 0x40000100"],
        ),
        (
            observed(sample_of({0: DEFAULT, 1: OLD, 2: DEFAULT})),
            "WARNING",
            "CPU 1 differs",
            ["CPU 1: lacks async_pf (eax bit 4), steal_time (eax bit 5), pv_eoi (eax bit 6)"],
        ),
        (
            observed(sample_of({0: guest(0x0100406B), 1: DEFAULT, 2: DEFAULT})),
            "WARNING",
            "CPU 0 differs; contradictory: async_pf_int",
            ["CPU 0: lacks async_pf (eax bit 4); has async_pf_int (eax bit 14)"],
        ),
        (
            observed(sample_of({0: OLD, 1: OLD, 2: OLD, 3: guest(0x0100001B), 4: guest(0x0100001B), 5: guest(0x0B)})),
            "WARNING",
            "3 CPUs differ",
            ["CPU 3-4: has async_pf (eax bit 4)", "CPU 5: lacks clocksource_stable_bit (eax bit 24)"],
        ),
        (
            observed(sample_of({0: ALL}, failed={1: HELD})),
            "WARNING",
            "CPU 1 could not be read",
            [f"CPU 1 failed: {HELD}"],
        ),
        (
            observed(sample_of({}, anywhere=ALL, failed=dict.fromkeys(range(5), "no"))),
            "WARNING",
            "No CPU could be read",
            [
                "The values below were read by an unpinned thread, on whichever CPU it ran.",
                "The end of this page lists the reason for each CPU.",
            ],
        ),
        (
            observed(sample_of({}, anywhere=ALL, skipped=frozenset({0, 1}))),
            "WARNING",
            "No CPU could be read",
            ["The settings exclude every online CPU; change --sample.cpus or --sample.isolated."],
        ),
        (
            observed(sample_of({0: BARE}), BARE),
            "NOTE",
            "No KVM",
            [
                "No hypervisor bit in leaf 1 (bare metal, or hidden)",
                "This is not an error: only KVM has these features.",
                "Do: Nothing, unless KVM was expected here.",
            ],
        ),
        (
            observed(sample_of({0: OTHER}), guest(0x0B)),
            "CRITICAL",
            "KVM is gone since boot; 3 features lost since boot",
            [
                "Hypervisor signature 'VMwareVMware' at 0x40000000",
                "Lost since boot: clocksource (eax bit 0), nop_io_delay (eax bit 1), clocksource2 (eax bit 3)",
            ],
        ),
        (
            observed(sample_of({0: guest(0)}), BARE),
            "WARNING",
            "Hypervisor changed since boot",
            ["Since boot: KVMKVMKVM at 0x40000000 instead of no hypervisor bit"],
        ),
        (
            late(observed(TWO, ALL), 200 * 86_400.0),
            "UNKNOWN",
            "KVM, all 2 CPUs alike, nothing changed since first sampled, 200 days after boot",
            ["What the kernel found when it booted is unknown."],
        ),
        (
            late(LOST, None),
            "WARNING",
            "2 features lost since first sampled",
            ["Lost since first sampled: pv_unhalt (eax bit 7), pv_tlb_flush (eax bit 9)"],
        ),
        (
            observed(sample_of({0: clocked(3_100_000)}), clocked(2_600_000)),
            "WARNING",
            "TSC frequency changed since boot",
            ["Since boot: TSC 3100.000 MHz instead of 2600.000 MHz (+192308 ppm)"],
        ),
        (
            observed(sample_of({0: clocked(None)}), clocked(2_600_000)),
            "UNKNOWN",
            "TSC frequency not comparable since boot; KVM, 1 CPU",
            ["Since boot: TSC frequency no longer reported by KVM (2600.000 MHz before)"],
        ),
        (
            replace(late(observed(sample_of({0: NOT_STEALING}), NOT_STEALING), 9e6), in_use={STEAL_TIME: STEALS}),
            "WARNING",
            "1 feature used, not offered",
            ["Used, not offered: steal_time (eax bit 5)"],
        ),
        (
            replace(observed(sample_of({0: NOT_STEALING}), ALL), in_use={STEAL_TIME: STEALS}),
            "CRITICAL",
            "1 feature lost since boot",
            ["Lost since boot: steal_time (eax bit 5)", f"Do: {action('lost', Level.CRITICAL)}"],
        ),
        (
            replace(
                observed(sample_of({0: NOT_STEALING}), ALL), in_use={STEAL_TIME: Use(Answer.NO, "one possible CPU")}
            ),
            "NOTE",
            "1 feature lost since boot; KVM, 1 CPU",
            ["steal_time (harmless): The kernel does not use it."],
        ),
        (
            observed(TWO, guest(0x01003EFB)),
            "WARNING",
            "1 feature gained since boot",
            ["Gained since boot: async_pf_int (eax bit 14)", f"Do: {action('gained', Level.WARNING)}"],
        ),
        (
            replace(observed(TWO, ALL), collectors={"guest": Collected(success=False, duration=0.1)}),
            "UNKNOWN",
            "Use by the guest kernel not known completely; KVM, all 2 CPUs alike, nothing changed since boot",
            [f"{GUEST_UNREAD.follows} Do: {GUEST_UNREAD.action}"],
        ),
        (
            observed(sample_of({0: DEFAULT})),
            "NOTE",
            "Unused: async_pf; KVM, 1 CPU",
            [
                "async_pf (eax bit 4) without async_pf_int (eax bit 14)",
                "Linux from 5.10 on has asynchronous page faults only with bit 14. QEMU's default features lack it.",
            ],
        ),
        (
            observed(sample_of({0: guest(0x01007EEB)}), guest(0x01007EEB)),
            "WARNING",
            "Contradictory: async_pf_int",
            ["async_pf_int (eax bit 14) without async_pf (eax bit 4)"],
        ),
        (
            replace(observed(TWO, ALL), persistent=False),
            "NOTE",
            "Boot reference in memory only; KVM, all 2 CPUs alike, nothing changed since boot",
            [f"{REFERENCE_VOLATILE.follows} Do: {REFERENCE_VOLATILE.action}"],
        ),
    ],
)
def test_the_headline_says_how_the_machine_is(
    observation: Observation | None, level: str, headline: str, details: list[str]
) -> None:
    """Title, level and headline match the state, and the details follow."""
    page = page_of(observation)
    assert page.texts("title") == [f"{headline} - kvm-exporter"]
    assert page.texts("h1") == [f"{level} {headline}"]
    lines = [text for text in page.texts("li") if text not in LINKS]
    assert [line for line in lines if line in details] == details
    assert bool(lines) == bool(details)
    assert page.texts("section")[0].startswith(f"\n{level} {headline}")


def test_a_finding_says_since_when_and_what_to_do() -> None:
    """Below its details a finding has the time when it was first seen, and the next step."""
    assert LOST.reference is not None
    known = replace(LOST, reference=replace(LOST.reference, changed=1704060100.0))
    lines = page_of(known).texts("li")
    assert "Since 2023-12-31 22:01:40 UTC. Do: Migrate the machine back, or reboot it, not by kexec." in lines
    assert "Do: Migrate the machine back, or reboot it, not by kexec." in page_of(LOST).texts("li")


def test_a_baseline_that_is_not_valid_is_no_good_news() -> None:
    """An invalid baseline file is unknown, and the page says so."""
    observation = observed(TWO, ALL)
    found = findings(observation, Baseline(), success=True, baseline_valid=False)
    page = Outline(landing_page(observation, found, LINKS))
    assert page.texts("h1") == ["UNKNOWN The baseline is not valid; KVM, all 2 CPUs alike, nothing changed since boot"]


def test_a_failed_attempt_comes_first() -> None:
    """A failed attempt is named first in the headline; the page shows the last good sample and says so."""
    page = page_of(LOST, success=False)
    assert page.texts("h1") == ["WARNING Last attempt to sample failed; 2 features lost since boot"]
    assert "This page shows the last good sample; see the log of the exporter for the error." in page.texts("li")


STABLE, UNSTABLE = (PvClock(stable=stable, tsc_khz=2_600_000) for stable in (True, False))
WITHOUT_BIT = guest(0x00007EFB)
SAYS_NOT = "The pvclock page says that kvm-clock is not stable."
MISSING = "clocksource_stable_bit (eax bit 24) was missing at boot, so the kernel takes it for unstable."


@pytest.mark.parametrize(
    ("clock", "now", "boot", "current", "expected"),
    [
        (STABLE, ALL, ALL, True, []),
        (UNSTABLE, ALL, ALL, True, [("clock_unstable", SAYS_NOT)]),
        (UNSTABLE, ALL, ALL, False, []),
        (UNSTABLE, ALL, ALL, None, []),
        (UNSTABLE, ALL, None, True, [("clock_unstable", SAYS_NOT)]),
        (UNSTABLE, BARE, ALL, True, []),
        (STABLE, WITHOUT_BIT, ALL, True, []),
        (STABLE, ALL, WITHOUT_BIT, True, [("clock_unstable", MISSING)]),
        (STABLE, WITHOUT_BIT, WITHOUT_BIT, True, [("clock_unstable", MISSING)]),
        (STABLE, WITHOUT_BIT, WITHOUT_BIT, False, []),
        (STABLE, WITHOUT_BIT, None, True, []),
        (UNSTABLE, WITHOUT_BIT, WITHOUT_BIT, True, [("clock_unstable", SAYS_NOT)]),
        (None, ALL, ALL, True, [("clock_unknown", "")]),
        (None, ALL, WITHOUT_BIT, True, [("clock_unstable", MISSING)]),
        (None, ALL, ALL, False, []),
        (None, BARE, None, None, []),
    ],
)
def test_a_clock_that_is_not_stable(
    clock: PvClock | None, now: Leaves, boot: Leaves | None, *, current: bool | None, expected: list[tuple[str, str]]
) -> None:
    """It counts where kvm-clock is current: by the page's flag, or by bit 24 at boot; without a page it is unknown."""
    source = {True: "kvm-clock", False: "tsc", None: None}[current]
    observation = replace(observed(sample_of({0: now}, clock=clock), boot), clocksource=source)
    found = findings(observation, None, success=True)
    assert [(one.kind.name, *one.details) for one in found if "clock" in one.kind.name] == [
        tuple(filter(None, one)) for one in expected
    ]
    if boot is WITHOUT_BIT and clock is STABLE and current:
        unclear = findings(late(observation, 700.0), None, success=True)
        assert not [one for one in unclear if "clock" in one.kind.name]


@pytest.mark.parametrize(
    ("leaf", "expected"), [(2_600_000, []), (2_600_650, []), (2_601_000, [TWO_FREQUENCIES]), (0, []), (None, [])]
)
def test_a_leaf_that_contradicts_the_page(leaf: int | None, expected: list[str]) -> None:
    """The finding has both frequencies; within 250 ppm they are the same, and an unknown one contradicts nothing."""
    found = findings(observed(sample_of({0: clocked(leaf)}, clock=STABLE)), None, success=True)
    details = [line for one in found if one.kind.name == "tsc_contradictory" for line in one.details]
    assert details == expected


def test_a_baseline_is_compared() -> None:
    """Each feature that violates the baseline is listed with what to set; a baseline that is met is not mentioned."""
    baseline = Baseline(required=(feature_named("pv_unhalt"), FEATURES[0]), forbidden=(feature_named("steal_time"),))
    page = page_of(observed(sample_of({0: DEFAULT})), baseline)
    assert page.texts("h1") == ["WARNING 2 baseline violations; unused: async_pf"]
    unhalt, steal, *_ = page.texts("li")[len(LINKS) :]
    assert unhalt.startswith(
        "Baseline: pv_unhalt (eax bit 7): required, but offered on no CPU; host setting: QEMU kvm-pv-unhalt=on; "
        "libvirt <features><pvspinlock state='on'/></features>; other causes: "
    )
    assert steal == (
        "Baseline: steal_time (eax bit 5): forbidden, but offered on every CPU; host setting: QEMU kvm-steal-time=off; "
        "libvirt has no element for it, use <qemu:commandline>"
    )
    assert page_of(observed(sample_of({0: ALL})), Baseline()).texts("h1") == ["OK KVM, 1 CPU"]


def test_every_reason_of_many_failures_is_there() -> None:
    """Every reason is listed, in a section below the table so that it does not displace the table."""
    failed = dict.fromkeys(range(300), "no")
    page = page_of(observed(sample_of({300: ALL}, failed=failed)))
    assert page.texts("li")[-300:] == [f"CPU {cpu} failed: {why}" for cpu, why in failed.items()]
    assert page.texts("h2") == ["Hypervisor", "Features", "CPUs that could not be read"]


def test_a_row_says_all_that_is_known_of_a_bit() -> None:
    """A row has all that is known of a bit; columns without any known value are left out."""
    sample = sample_of({0: DEFAULT, 1: OLD, 2: DEFAULT}, anywhere=OLD, retained={3: ALL})
    everything = Observation(
        sample,
        BootReference(guest(0x010002FB), 0.0, 20.0),
        in_use={
            feature_named("steal_time"): Use(Answer.YES, "offered at boot"),
            feature_named("pv_unhalt"): Use(Answer.NO, "one possible CPU"),
            feature_named("pv_eoi"): Use(Answer.BROKEN, "not offered now"),
        },
        host=Kvm(BASES[0], 0x01007EFB, 0),
        collectors={"guest": Collected(success=True, duration=0.0)},
    )
    rows = rows_of(page_of(everything))
    assert rows["steal_time"] == {
        "name": "steal_time",
        "bit": "eax 5",
        "offered": "yes",
        "cpus": "3 of 4",
        "boot": "same",
        "used": "yes offered at boot",
        "host": "yes",
        "meaning": "steal time can be enabled",
    }
    columns = ("offered", "cpus", "boot", "used", "host")
    assert [rows["pv_unhalt"][column] for column in columns] == ["no", "1 of 4", "lost", "no one possible CPU", "yes"]
    assert rows["pv_eoi"]["used"] == "enabled, does not work any more not offered now"
    assert [rows["hints_realtime"][column] for column in columns] == ["no", "0 of 4", "same", "?", "?"]
    assert rows_of(page_of(observed(sample)))["steal_time"].keys() == {"name", "bit", "offered", "cpus", "meaning"}


def test_what_is_out_of_order_is_marked() -> None:
    """Rows and cells of bits that were lost, were gained or differ between CPUs are marked, by how urgent it is."""
    page = page_of(observed(sample_of({0: DEFAULT, 1: OLD, 2: DEFAULT}), guest(0x010002FA)))
    assert {text.split("eax")[0] for text in page.texts("tr", "warning")} == {
        *("async_pf", "steal_time", "pv_eoi", "pv_unhalt")
    }
    assert [text.split("eax")[0] for text in page.texts("tr", "note")] == ["clocksource", "pv_tlb_flush"]
    assert page.texts("td", "warning") == ["2 of 3", "2 of 3", "2 of 3", "lost"]
    assert page.texts("td", "note") == ["gained", "lost"]


def test_the_machine_is_described() -> None:
    """The page has all signatures, the fingerprint, registers, CPUs, frequencies, clocksource, and both times."""
    kvm = Kvm(0x40000100, 0x0100007B, 1, timing=Timing(2_599_997, 1_000_000))
    hyper_v = SignatureLeaf(0x40000000, b"Microsoft Hv", 0x40000005)
    found = (hyper_v, SignatureLeaf(0x40000100, KVM_SIGNATURE, 0x40000110))
    leaves = Leaves(hypervisor_bit=True, hypervisors=found, kvm=kvm)
    sample = sample_of({0: leaves}, retained={1: leaves}, skipped=[2], clock=STABLE)
    page = page_of(Observation(sample, BootReference(leaves, 1704060000.9, 20.0), clocksource="kvm-clock"))
    terms = [(text, "") if tag == "dt" else ("", text) for tag, _, text in page.elements if tag in {"dt", "dd"}]
    assert [term or value for term, value in terms] == [
        *("Signature", "Microsoft Hv at 0x40000000", "highest leaf 0x40000005"),
        *("Signature", "KVMKVMKVM at 0x40000100", "highest leaf 0x40000110"),
        *("Fingerprint", "671fa1834330d3c4", "Feature leaf", "EAX 0x0100007b, EDX 0x00000001"),
        *("CPUs", "3 online, 1 sampled, 1 retained, 1 skipped"),
        *("Frequencies", "TSC 2599.997 MHz, APIC bus 1000.000 MHz"),
        *("KVM's clock", "kvm-clock stable, TSC 2600.000 MHz", "Current clocksource", "kvm-clock"),
        *("Boot reference", "first sample of this boot, 2023-12-31 22:00:00 UTC"),
        *("20 seconds after boot", "in memory only"),
    ]
    times = [attributes["datetime"] for tag, attributes, _ in page.elements if tag == "time"]
    assert times == ["2024-01-01T00:00:00Z", "2023-12-31T22:00:00Z"]
    assert page.texts("p", "when") == ["Sampled 2024-01-01 00:00:00 UTC, 2 minutes before this page was loaded."]


@pytest.mark.parametrize(
    ("documentation", "words"),
    [
        ({}, "Help: kvm-exporter --help"),
        ({"Documentation": "https://a/README.md", "Runbooks": "https://a/?b&c"}, "Documentation, Runbooks"),
    ],
)
def test_the_end_of_the_page_leads_to_the_documentation(documentation: Mapping[str, str], words: str) -> None:
    """It has the version, and links to the documentation; without them, the command that helps."""
    observation = observed(TWO)
    found = findings(observation, None, success=True)
    page = Outline(landing_page(observation, found, {}, documentation=documentation))
    assert page.texts("footer") == [f"kvm-exporter {__version__}. {words}"]
    assert [attributes["href"] for tag, attributes, _ in page.elements if tag == "a"] == list(documentation.values())


def test_where_there_is_no_feature_leaf_the_page_says_so() -> None:
    """Without a feature leaf the page says so, and no feature is offered."""
    page = page_of(observed(sample_of({0: guest(0x0B, max_leaf=0x40000000)})))
    assert "absent: the highest leaf is below it" in page.texts("dd")
    assert {cells["offered"] for cells in rows_of(page).values()} == {"no"}


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (-5.0, "less than a second"),
        (0.9, "less than a second"),
        (1.0, "1 second"),
        (59.9, "59 seconds"),
        (60.0, "1 minute"),
        (7199.0, "1 hour"),
        (86400 * 3.5, "3 days"),
    ],
)
def test_the_age_is_in_words(age: float, words: str) -> None:
    """The age is given in the largest unit that is at least 1, rounded down; a negative age is less than a second."""
    observation = observed(TWO)
    page = landing_page(observation, findings(observation, None, success=True), LINKS, age=age)
    assert f", {words} before this page was loaded.</p>" in page


def test_what_came_from_elsewhere_is_text() -> None:
    """Signatures, reasons and paths that contain markup are escaped and close no element."""
    tricks = [b"<script>'\"&x", b'"><img src=x', b"</dd></dl>&l"]
    hypervisors = tuple(SignatureLeaf(0x40000000 + 0x100 * n, trick, 0x40000000) for n, trick in enumerate(tricks))
    sample = sample_of({0: Leaves(hypervisor_bit=True, hypervisors=hypervisors)}, failed={7: "</ul><b id='x'>\" &lt;"})
    observation = observed(sample, ALL)
    found = findings(observation, None, success=True)
    page = Outline(landing_page(observation, found, {"Metrics": '/"><script>', "<i>": "/"}, host="<b>host</b>"))
    assert page.texts("title")[0].startswith("<b>host</b>: ")
    assert page.texts("h1")[0].startswith("CRITICAL on <b>host</b> ")
    assert page.tags.keys() <= TAGS
    assert [text.split(" at ")[0] for text in page.texts("dd") if " at " in text] == [
        trick.decode() for trick in tricks
    ]
    assert "CPU 7 failed: </ul><b id='x'>\" &lt;" in page.texts("li")
    assert [attributes["href"] for tag, attributes, _ in page.elements if tag == "a"] == ['/"><script>', "/"]


WORDS = st.integers(0, 2**32 - 1)
HYPERVISORS = st.builds(SignatureLeaf, st.sampled_from(BASES), st.binary(min_size=12, max_size=12), WORDS)
KVMS = st.builds(
    Kvm,
    st.sampled_from(BASES),
    WORDS,
    WORDS,
    has_leaf=st.booleans(),
    timing=st.none() | st.builds(Timing, WORDS, WORDS),
)
LEAVES = st.builds(
    Leaves, st.booleans(), st.lists(HYPERVISORS, max_size=3).map(tuple), st.none() | KVMS
) | st.sampled_from([ALL, DEFAULT, BARE])
CPUS = st.dictionaries(
    st.integers(0, 8191),
    st.tuples(st.sampled_from(["sampled", "retained"]), LEAVES)
    | st.tuples(st.just("failed"), st.text())
    | st.just(("skipped", "")),
    max_size=8,
)
SECONDS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """Strategy: any observation, likely or not."""
    cpus: dict[str, dict[int, object]] = {"sampled": {}, "retained": {}, "failed": {}, "skipped": {}}
    for cpu, (state, value) in draw(CPUS).items():
        cpus[state][cpu] = value
    sample = Sample(
        anywhere=draw(LEAVES),
        timestamp=draw(SECONDS),
        boottime=0.0,
        duration=0.0,
        **cpus,  # type: ignore[arg-type]
    )
    return Observation(
        sample,
        draw(st.none() | st.builds(BootReference, LEAVES, SECONDS)),
        in_use=draw(st.dictionaries(st.sampled_from(FEATURES), st.builds(Use, st.sampled_from(Answer), st.text()))),
        clocksource=draw(st.none() | st.sampled_from(["kvm-clock", "tsc"]) | st.text()),
        host=draw(st.none() | st.builds(Kvm, st.just(BASES[0]), WORDS, WORDS)),
        collectors=draw(st.sampled_from([{}, {"guest": Collected(success=True, duration=0.0)}])),
    )


def names_to_show(observation: Observation) -> set[str]:
    """Return the features that need a row: assigned or set ones under KVM, and those set at boot."""
    sample = observation.sample
    boot = observation.reference.leaves.kvm if observation.reference is not None else None
    words = [boot] if boot is not None else []
    if sample.common.kvm is not None:
        words += [leaves.kvm for leaves in (sample.common, *sample.known.values()) if leaves.kvm is not None]
    bits = {feature_at("eax", bit).name for kvm in words for bit in range(32) if kvm.eax >> bit & 1}
    bits |= {feature_at("edx", bit).name for kvm in words for bit in range(32) if kvm.edx >> bit & 1}
    return bits | {feature.name for feature in FEATURES if sample.common.kvm is not None}


@given(observations(), SECONDS, st.booleans())
def test_any_observation_is_a_page(observation: Observation, age: float, success: bool) -> None:  # noqa: FBT001
    """Any page is well-formed and has only known elements, ordered headings, a row per feature, and every reason."""
    page = Outline(landing_page(observation, findings(observation, None, success=success), LINKS, age=age))
    assert page.declaration == "DOCTYPE html"
    assert page.tags.keys() <= TAGS
    assert [page.tags[tag] for tag in ("html", "title", "header", "nav", "main", "footer", "h1")] == [1] * 7
    levels = [int(tag[1]) for tag, *_ in page.elements if tag in {"h1", "h2"}]
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    rows = rows_of(page)
    assert rows.keys() == names_to_show(observation)
    assert [text for text in page.texts("li") if " failed: " in text] == [
        f"CPU {cpu} failed: {why}" for cpu, why in sorted(observation.sample.failed.items())
    ]


def test_the_policy_allows_the_style_alone() -> None:
    """The policy allows only the page's own style, by its hash; nothing else may be loaded, sent or framed."""
    [style] = page_of(observed(TWO)).texts("style")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert dict(HEADERS) == {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def test_the_baseline_is_the_file_as_it_is_now(tmp_path: Path) -> None:
    """A reload of the page shows an edited baseline."""
    file = tmp_path / "baseline.yml"
    file.write_text("features: {required: [edx_bit_31]}")
    with exporter(f"--baseline.file={file}") as running:
        before = Outline(running.get("/"))
        file.write_text("features: {forbidden: [edx_bit_31]}")
        after = Outline(running.get("/"))
    assert "1 baseline violation" in before.texts("h1")[0]
    violated = "Baseline: edx_bit_31 (edx bit 31): required, but offered on no CPU"
    assert [line for line in before.texts("li") if line.startswith(violated)]
    assert "baseline" not in after.texts("h1")[0]


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, from 0 to 1: WCAG 2.2."""
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, from 1 to 21: WCAG 2.2."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


TONES = ("ok", "note", "warning", "critical")


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_everything_can_be_read(palette: Mapping[str, str]) -> None:
    """Every text colour has a contrast of at least 4.5 on every background that it can be on: WCAG level AA."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    grounds = ("ground", "sheet", *(f"{tone}-tint" for tone in TONES))
    for ground in grounds:
        for ink in ("ink", "muted", "link", *TONES):
            assert contrast(palette[ink], palette[ground]) >= 4.5, (ink, ground)


def test_the_style_has_no_colour_of_its_own() -> None:
    """Every colour is in a palette, and both palettes have the same names, all of them used."""
    assert set(re.findall(r"#[0-9a-f]{3,8}\b", STYLE)) == {*LIGHT.values(), *DARK.values()}
    names = set(re.findall(r"var\(--([a-z-]+)\)", STYLE))
    assert names - {"tone", "tint"} == LIGHT.keys() == DARK.keys()
