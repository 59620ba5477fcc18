"""kvm_exporter.kvm.baseline: violations of a declared baseline, and the baseline that a machine prints of itself."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.config.baseline import format_baseline, parse_baseline
from kvm_exporter.cpuid.dump import parse_dump
from kvm_exporter.kvm.baseline import Baseline, violations
from kvm_exporter.kvm.features import feature_named, features_of
from kvm_exporter.kvm.leaves import Leaves
from kvm_exporter.kvm.sample import Sample
from lab.patience import PATIENCE_SECONDS
from lab.readers import guest, sample_of
from lab.tree import DUMPS

STEAL, CLOCK, HINT, NOBODYS = (
    feature_named(name) for name in ("steal_time", "clocksource2", "hints_realtime", "eax_bit_30")
)
WANTED = Baseline(required=(STEAL, CLOCK), forbidden=(HINT, NOBODYS))

GOOD = guest(0x0000_0028)
NO_STEAL = guest(0x0000_0008)
HINTED = guest(0x0000_0028, 1)
ODD = guest(0x4000_0028)
NO_KVM = Leaves(hypervisor_bit=True)

NO_STEAL_LINE = "steal_time (eax bit 5): required, but not offered on "
NO_STEAL_ANYWHERE = "steal_time (eax bit 5): required, but offered on no CPU"
HINT_LINE = "hints_realtime (edx bit 0): forbidden, but offered on "

WORDS = st.integers(0, 2**32 - 1)
SAMPLES = st.dictionaries(st.integers(0, 99), st.builds(guest, WORDS, WORDS), min_size=1, max_size=5).map(sample_of)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (sample_of({0: GOOD, 1: GOOD}), []),
        (sample_of({0: guest(0xBFFF_FFFF, 0xFFFF_FFFE)}), []),
        (sample_of({0: NO_STEAL}), [NO_STEAL_ANYWHERE]),
        (sample_of({0: GOOD, 1: NO_STEAL, 2: GOOD, 3: NO_STEAL}), [f"{NO_STEAL_LINE}CPU 1,3"]),
        (sample_of({0: GOOD, 1: NO_STEAL, 2: NO_STEAL, 3: NO_STEAL}), [f"{NO_STEAL_LINE}CPU 1-3"]),
        (sample_of({0: GOOD}, retained={4: NO_STEAL}), [f"{NO_STEAL_LINE}CPU 4"]),
        (sample_of(dict.fromkeys(range(300), NO_STEAL)), [NO_STEAL_ANYWHERE]),
        (sample_of({3: NO_STEAL}, retained={4: NO_STEAL}), [NO_STEAL_ANYWHERE]),
        (sample_of({0: GOOD}, skipped=[1], failed={2: "held"}), []),
        (sample_of({0: NO_STEAL}, skipped=[1], failed={2: "held"}), [NO_STEAL_ANYWHERE]),
        (sample_of({0: HINTED, 1: NO_STEAL}), [f"{NO_STEAL_LINE}CPU 1", f"{HINT_LINE}CPU 0"]),
        (sample_of({0: ODD, 1: GOOD}), ["eax_bit_30 (eax bit 30): forbidden, but offered on CPU 0"]),
        (
            sample_of({0: NO_KVM}),
            [NO_STEAL_ANYWHERE, "clocksource2 (eax bit 3): required, but offered on no CPU"],
        ),
        (sample_of({}, anywhere=GOOD, failed={0: "refused"}), []),
        (sample_of({}, anywhere=NO_STEAL, failed={0: "refused"}), [NO_STEAL_ANYWHERE]),
    ],
    ids=[
        *("as declared", "more than declared", "all CPUs", "some CPUs", "a range of CPUs", "retained", "all of many"),
        *(
            "all known",
            "not known",
            "not known and missing",
            "two features",
            "unassigned",
            "no KVM",
            "only unpinned",
            "not there",
        ),
    ],
)
def test_violations(sample: Sample, expected: list[str]) -> None:
    """There is one line per violated feature, required ones first; the CPUs that could be read count, and no others."""
    assert [violation.words for violation in violations(WANTED, sample)] == expected


def test_a_setting_of_the_host_ends_a_violation() -> None:
    """It offers what is required and withholds what is forbidden; it does not make CPUs equal."""
    found = violations(WANTED, sample_of({0: guest(0x0000_0008, 1)}))
    settings = [violation.setting for violation in found]
    assert [setting and setting.qemu for setting in settings] == ["kvm-steal-time=on", "kvm-hint-dedicated=off"]
    [differs] = violations(WANTED, sample_of({0: GOOD, 1: NO_STEAL}))
    assert differs.setting is None


@given(SAMPLES)
def test_an_empty_baseline_is_kept_by_every_machine(sample: Sample) -> None:
    """A feature that the baseline does not mention may be offered or not."""
    assert violations(Baseline(), sample) == ()


@given(SAMPLES)
def test_each_bit_is_either_required_or_forbidden_in_vain(sample: Sample) -> None:
    """A bit on which all known CPUs agree violates one of two opposite baselines; another bit violates both."""
    for feature in features_of(0xFFFF_FFFF, 0xFFFF_FFFF):
        offers = {leaves.offers(feature) for leaves in sample.known.values()}
        assert bool(violations(Baseline(required=(feature,)), sample)) == (False in offers)
        assert bool(violations(Baseline(forbidden=(feature,)), sample)) == (True in offers)


EXPECTED = """\
# KVM at 0x40000000, features EAX 0x41000020, EDX 0x00000001, fingerprint 362c6be531515fa0
# Remove the features that this machine does not need, and list under forbidden those that it must not be
# offered. Then serve with --baseline.file=FILE, or compare now with: kvm-exporter check --baseline FILE
features:
  required:
    - steal_time  # eax bit 5: steal time can be enabled
    - clocksource_stable_bit  # eax bit 24: a flag of kvmclock says if it is stable
    - eax_bit_30  # eax bit 30: not assigned by the mainline kernel
    - hints_realtime  # edx bit 0: vCPUs are never preempted
  forbidden: []
"""


def test_a_baseline_of_this_machine_is_a_file_to_edit() -> None:
    """The text lists each feature of the common leaves with its place and meaning, and explains how to use it."""
    offered = guest(0x4100_0020, 1)
    assert format_baseline(sample_of({0: offered, 1: guest(0xFFFF_FFFF), 2: offered})) == EXPECTED


@pytest.mark.parametrize("leaves", [NO_KVM, guest(0), Leaves(hypervisor_bit=False)])
def test_a_baseline_of_a_machine_that_offers_nothing_requires_nothing(leaves: Leaves) -> None:
    """The baseline of a machine without features is complete and empty."""
    text = format_baseline(sample_of({0: leaves}))
    assert text.splitlines()[-3:] == ["features:", "  required: []", "  forbidden: []"]
    assert parse_baseline(text.encode()) == Baseline()


@given(SAMPLES)
def test_a_formatted_baseline_parses_back(sample: Sample) -> None:
    """A formatted baseline requires exactly the bits of the common leaves, in order, and forbids no bit."""
    offered = tuple(feature for feature in features_of(0xFFFF_FFFF, 0xFFFF_FFFF) if sample.common.offers(feature))
    assert parse_baseline(format_baseline(sample).encode()) == Baseline(required=offered)


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
def test_a_machine_keeps_its_own_baseline(dump: Path) -> None:
    """Every recorded machine, without its divergent CPUs, matches the baseline that is made from it."""
    sample = sweep(parse_dump(dump.read_bytes()), CpuSelection(), None)
    own = parse_baseline(format_baseline(sample).encode())
    alike = {cpu: leaves for cpu, leaves in sample.sampled.items() if cpu not in sample.divergent}
    assert violations(own, replace(sample, sampled=alike)) == ()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a child process."""
    command = [sys.executable, "-m", "kvm_exporter", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


def test_this_machine_keeps_its_own_baseline(tmp_path: Path) -> None:
    """On the real CPUs, ``check`` accepts the baseline that ``baseline`` has printed."""
    path = tmp_path / "baseline.yml"
    printed = run("baseline")
    assert (printed.returncode, printed.stderr) == (0, "")
    path.write_text(printed.stdout)
    checked = run("check", "--baseline", os.fspath(path))
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.endswith("matches the baseline\n")
