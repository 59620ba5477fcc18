"""What people have reported in public of guests, containers and their tools, and what the exporter concludes there.

Each case has its source; the machine is made again from what the report says. tests/cpuid/test_dump_pasted.py has
more.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kvm_exporter.collector.boot import FILE_NAME, Boot, BootReference, BootReferenceKeeper, format_reference
from kvm_exporter.collector.observer import Observation, Observer
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.config.baseline import watch_baseline
from kvm_exporter.cpuid.registers import Reader, Registers
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, read_leaves
from kvm_exporter.kvm.leaves import SignatureLeaf as Signature
from kvm_exporter.kvm.migration import Side, compare
from kvm_exporter.report.findings import findings, headline
from lab.pvclock import pvclock_page
from lab.readers import BASE, Machine, Rows, kvm_rows, reader, signature_leaf
from tests.support.rooms.kernel import COMMAND_LINE, CPU_INFO, CURRENT, STAT, Content, kernel

ALL, NO_STEAL_TIME, NO_PAGE_READY = 0x0100_7EFB, 0x0100_7EDB, 0x0100_3EFB
DAY = 86_400.0
STARTED = 1704067200.0
THIS_BOOT = Boot("0f7b5ff4-9d4e-4a0b-9c39-9a3c4d3f3d8e", STARTED, DAY)

REFUSED = "sched_setaffinity(2) is refused; allow it in the seccomp filter"
OUTSIDE = "it is offline, or outside the cpuset"


def rows(eax: int = ALL, tsc_khz: int | None = None) -> Rows:
    """Return the leaves of a guest, with the timing leaf if there is a frequency."""
    return kvm_rows(eax, timing=Registers(tsc_khz, 1_000_000, 0, 0) if tsc_khz is not None else None)


def on_two(leaves: Rows) -> dict[int, Reader | str]:
    """Return two CPUs alike."""
    return dict.fromkeys((0, 1), reader(leaves))


@dataclass(frozen=True, slots=True)
class Case:
    """A machine, what was known of it before, and the findings: their names, and the headline of the page."""

    expected: tuple[str, ...]
    headline: str
    cpus: Mapping[int, Reader | str] = field(default_factory=lambda: on_two(rows()))
    #: The leaves of the reference that is there already; None if the exporter starts for the first time.
    reference: Rows | None = field(default_factory=rows)
    #: The boot in which that reference was taken, as its file has it.
    taken_in: Boot = THIS_BOOT
    boot: Boot = THIS_BOOT
    files: Mapping[str, Content] = field(default_factory=dict)


NO_BOOT_ID = THIS_BOOT._replace(id="")
WELL = "KVM, all 2 CPUs alike"

CASES = {
    # A service is hardened with SystemCallFilter=~@resources, and its threads cannot be pinned any more.
    "https://github.com/NixOS/nixpkgs/pull/148543": Case(
        ("cpus_unread",), "No CPU could be read", cpus={0: REFUSED, 1: REFUSED, 2: REFUSED}
    ),
    # A container may run on CPU 0 alone; LXCFS says that 0-1 are online.
    "https://github.com/lxc/lxcfs/issues/401": Case(
        ("cpus_unread",), "CPU 1 could not be read", cpus={0: reader(rows()), 1: OUTSIDE}
    ),
    # A pod has CPUs 2-5 to itself; sysfs shows all 18.
    "https://github.com/kubernetes/kubernetes/issues/87249": Case(
        ("cpus_unread",),
        "14 CPUs could not be read",
        cpus={cpu: reader(rows()) if cpu in range(2, 6) else OUTSIDE for cpu in range(18)},
    ),
    # /proc/cpuinfo and /sys are for root alone.
    "https://github.com/Kicksecure/security-misc/issues/172": Case(
        ("guest_unread", "ok_since_boot"),
        f"Use by the guest kernel not known completely; {WELL}, nothing changed since boot",
        files={CPU_INFO: None, CURRENT: None},
    ),
    # The time of the boot moves by a second without a reboot, here where /proc has processes only: drift goes on.
    "https://github.com/ceph/calamari/pull/94": Case(
        ("feature_lost_dangerous", "guest_unread"),
        "1 feature lost since boot; use by the guest kernel not known completely",
        cpus=on_two(rows(NO_STEAL_TIME)),
        taken_in=NO_BOOT_ID._replace(uptime=20.0),
        boot=NO_BOOT_ID._replace(began=STARTED + 1.0),
        files={COMMAND_LINE: None, STAT: None, CPU_INFO: None},
    ),
    # NTP sets the clock forward, and with it the time of the boot: the reference is new, and what is used remains.
    "https://github.com/gdraheim/docker-systemctl-replacement/issues/204": Case(
        ("used_not_offered",),
        "1 feature used, not offered",
        cpus=on_two(rows(NO_STEAL_TIME)),
        taken_in=NO_BOOT_ID._replace(uptime=20.0),
        boot=NO_BOOT_ID._replace(began=STARTED + 3600.0),
    ),
    # Guests that an old QEMU started months ago move to a new one; the exporter comes after that.
    "https://github.com/kubevirt/kubevirt/issues/16386": Case(
        ("ok_since_first_sampled",),
        f"{WELL}, nothing changed since first sampled, 90 days after boot",
        reference=None,
        boot=THIS_BOOT._replace(uptime=90 * DAY),
    ),
    # A snapshot of a guest that had just booted is restored on another host: the reference is early, and says nothing.
    "https://github.com/ilbertt/nibrun/pull/410": Case(
        ("used_not_offered",),
        "1 feature used, not offered",
        cpus=on_two(rows(NO_STEAL_TIME)),
        reference=None,
        boot=THIS_BOOT._replace(uptime=40.0),
    ),
    # Hosts of one type differ by 2 kHz, because each kernel measures at its boot.
    "https://github.com/kubevirt/kubevirt/pull/9615": Case(
        ("ok_since_boot",),
        f"{WELL}, nothing changed since boot",
        cpus=on_two(rows(tsc_khz=2_599_999)),
        reference=rows(tsc_khz=2_599_997),
    ),
    # A snapshot is restored on a CPU with another TSC frequency.
    "https://github.com/firecracker-microvm/firecracker/issues/2985": Case(
        ("tsc_changed", "clock_unknown"),
        "TSC frequency changed since boot; stability of kvm-clock unknown",
        cpus=on_two(rows(tsc_khz=2_900_000)),
        reference=rows(tsc_khz=2_500_000),
    ),
    # Some nodes do not expose the TSC frequency.
    "https://github.com/kubevirt/kubevirt/pull/8359": Case(
        ("tsc_unreported", "clock_unknown", "ok"),
        f"TSC frequency not comparable since boot; stability of kvm-clock unknown; {WELL}",
        reference=rows(tsc_khz=2_500_000),
    ),
}


def page_khz(case: Case) -> int | None:
    """Return the frequency in the pvclock page; reports on the timing leaf's frequency have no page."""
    return None if any(kind.startswith("tsc_") for kind in case.expected) else 2_600_000


def known(case: Case, directory: Path) -> BootReferenceKeeper:
    """Return the keeper of an exporter that starts in a case."""
    if case.reference is not None:
        leaves = read_leaves(reader(case.reference), [Signature(BASE, KVM_SIGNATURE, 0)])
        reference = BootReference(leaves, STARTED + 20.0, uptime=20.0, clock_khz=page_khz(case))
        (directory / FILE_NAME).write_bytes(format_reference(reference, case.taken_in))
    return BootReferenceKeeper(directory, case.boot)


def observe(case: Case, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Observation:
    """Return the first observation of an exporter that starts in a case."""
    monkeypatch.setattr("kvm_exporter.collector.sweep.time.clock_gettime", lambda _: case.boot.uptime)
    root = kernel(directory / "root", case.files)
    home = next((cpu for cpu in case.cpus.values() if callable(cpu)), reader(rows()))
    machine = Machine(case.cpus, home=home)
    machine.page = pvclock_page() if page_khz(case) is not None else None
    return Observer(machine, CpuSelection(), known(case, directory), host=False, root=root).observe(None)


@pytest.mark.parametrize("source", CASES)
def test_what_is_found_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """The findings are those of the report, the most urgent first, and none is wider than what is known."""
    case = CASES[source]
    observation = observe(case, tmp_path, monkeypatch)
    found = findings(observation, None, success=observation.sample.pinned)
    assert (tuple(finding.kind.name for finding in found), headline(found)) == (case.expected, case.headline)


BASELINES: dict[str, str | None] = {
    # The file was not there when the container started, and Docker has made a directory of it.
    "https://github.com/deviantony/docker-elk/issues/103": None,
    # A section without a content.
    "https://github.com/QubitProducts/exporter_exporter/pull/66": "features:\n",
    # A template that was not filled in.
    "https://github.com/mustafaakin/kubernetes-event-exporter/issues/49": "features: {required: [{{ features }}]}\n",
    # The ConfigMap is missing.
    "https://github.com/NVIDIA/dcgm-exporter/pull/698": "",
}


@pytest.mark.parametrize("source", BASELINES)
def test_a_broken_baseline_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, source: str
) -> None:
    """The exporter starts without one, says so, and takes the file when it is right."""
    path, text = tmp_path / "baseline.yml", BASELINES[source]
    if text is None:
        path.mkdir()
    elif text:
        path.write_text(text)
    baseline = watch_baseline(path)
    observation = observe(Case((), ""), tmp_path, monkeypatch)
    found = findings(observation, baseline.value, success=True, baseline_valid=baseline.success)
    assert headline(found) == f"The baseline is not valid; {WELL}, nothing changed since boot"
    [message] = caplog.messages
    assert message.startswith(f"could not load the baseline, starting without it: {path}: ")
    if text is None:
        path.rmdir()
    path.write_text("features: {forbidden: [steal_time]}\n")
    caplog.set_level(logging.INFO)
    baseline.refresh()
    found = findings(observation, baseline.value, success=True, baseline_valid=baseline.success)
    assert headline(found) == "1 baseline violation"


BESIDE_HYPER_V = {**kvm_rows(ALL, base=0x4000_0100), BASE: signature_leaf(b"Microsoft Hv", BASE + 5)}

MIGRATIONS: dict[str, tuple[Rows, Rows, str, tuple[str, ...]]] = {
    # Hyper-V enlightenments are switched on: KVM moves to the next base, and QEMU leaves the timing leaf out.
    "https://github.com/systemd/systemd/issues/17894": (
        rows(tsc_khz=2_599_997),
        BESIDE_HYPER_V,
        "incompatible",
        (
            "hypervisor: Microsoft Hv at 0x40000000 and KVMKVMKVM at 0x40000100 instead of KVMKVMKVM at 0x40000000",
            "TSC frequency no longer reported by KVM (2599.997 MHz before)",
        ),
    ),
    # A VMM stops to offer page-ready interrupts, because guests spin with them ...
    "https://github.com/cloud-hypervisor/cloud-hypervisor/pull/2498": (
        rows(),
        rows(NO_PAGE_READY),
        "incompatible",
        ("lost: async_pf_int (eax bit 14)",),
    ),
    # ... and offers them again two years later.
    "https://github.com/cloud-hypervisor/cloud-hypervisor/pull/5626": (
        rows(NO_PAGE_READY),
        rows(),
        "compatible with warnings",
        ("gained: async_pf_int (eax bit 14)",),
    ),
    # On AWS the highest leaf is above the feature leaf.
    "https://github.com/nanovms/nanos/pull/1792": (
        rows(),
        kvm_rows(ALL, max_leaf=BASE + 0x10),
        "compatible",
        (),
    ),
}


@pytest.mark.parametrize("source", MIGRATIONS)
def test_what_compare_says_of_it(source: str) -> None:
    """The verdict, and each difference by name."""
    before, after, verdict, differences = MIGRATIONS[source]
    sides = (Side(sweep(Machine(on_two(leaves)), CpuSelection(), None)) for leaves in (before, after))
    comparison = compare(*sides)
    assert comparison.verdict == f"{verdict}, as far as KVM's leaves tell"
    assert tuple(reason.what for reason in comparison.reasons) == differences
