"""Files of the kernel that are missing, empty, huge or closed, and CPUs with any numbers: what is shown then."""

import os
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from kvm_exporter.collector.observer import Observation
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.cpuid.dump import Dump, format_dump, parse_dump
from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.machine import machine_families
from kvm_exporter.metrics.negotiation import Format
from kvm_exporter.report.findings import findings
from kvm_exporter.report.page import landing_page
from kvm_exporter.report.table import table
from lab.exporter import UNMEASURED, exporter
from lab.patience import PATIENCE_SECONDS
from lab.proc import errors, memory, wait_until
from lab.readers import kvm_rows
from lab.scrape import Scrape
from tests.support.system.mounts import instead, seeing

CPUS = "/sys/devices/system/cpu"
CLOCKSOURCES = "/sys/devices/system/clocksource/clocksource0"

EVIDENCE = (
    *("/proc/cmdline", "/proc/stat", "/proc/interrupts", "/proc/cpuinfo", "/proc/sys/kernel/random/boot_id"),
    *(f"{CLOCKSOURCES}/available_clocksource", f"{CLOCKSOURCES}/current_clocksource", f"{CPUS}/possible"),
    "/proc/sys/kernel/osrelease",
)
"""What is read besides the CPUs, on every machine."""

UNREADABLE = Path("/proc/kmsg")
"""Only root may open it, and not in a namespace of its own: proc(5)."""

ODD = ("empty", "nonsense", "huge", "unreadable")


def odd_file(folder: Path, kind: str) -> Path:
    """Something to put in the place of a file of the kernel's."""
    if kind == "unreadable":
        return UNREADABLE
    path = folder / kind
    path.write_bytes(b"\xff\0-1,,x " * 100 if kind == "nonsense" else b"")
    if kind == "huge":
        os.truncate(path, 1 << 28)
    return path


# No /sys, no /proc.


@pytest.mark.parametrize(
    ("mount", "why"),
    [
        ("-t tmpfs none /sys", "No such file or directory"),
        (instead(f"{CPUS}/online", UNREADABLE), "Operation not permitted"),
    ],
    ids=["no /sys", "unreadable"],
)
def test_without_sysfs_there_is_nothing_to_serve(mount: str, why: str) -> None:
    """Exit code 1, and a line that says what to do."""
    with exporter(under=seeing(mount)) as running:
        assert running.process.wait(PATIENCE_SECONDS) == 1
        wait_until(lambda: running.log == [f"kvm-exporter: {CPUS}/online: {why}; is /sys mounted?"])


def test_without_proc_the_leaves_are_served() -> None:
    """Nothing of the process, and less evidence; all else is as it is."""
    with exporter() as usual, exporter(under=seeing("-t tmpfs none /proc"), environment=UNMEASURED) as running:
        expected, found = usual.scrape(), running.scrape()
        assert running.stop() == 0
        assert errors(running) == []
    for name in ("kvm_present", "kvm_feature_offered", "kvm_cpus", "kvm_cpu_register", "kvm_exporter_sample_success"):
        assert found.series(name) == expected.series(name)
    assert not [name for name in found.names if name.startswith("process_")]


# Files.


@pytest.mark.parametrize(
    ("kind", "complaint"), [("empty", "lists no CPU"), ("nonsense", "is not a CPU"), ("huge", "lists no CPU")]
)
def test_where_nobody_knows_the_cpus_the_daemon_says_so(tmp_path: Path, kind: str, complaint: str) -> None:
    """It is up and healthy, not ready, and shows that there is no sample: kvm_present is left out, not 0."""
    under = seeing(instead(f"{CPUS}/online", odd_file(tmp_path, kind)))
    with exporter(under=under) as running:
        assert complaint in running.wait_for_log("could not be sampled")
        scrape = running.scrape()
        assert "kvm_present" not in scrape.names
        assert scrape.value("kvm_exporter_sample_success") == 0
        assert "healthy" in running.get("/-/healthy")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            running.get("/-/ready")
        assert running.stop() == 0
    assert len(errors(running)) == 1


@pytest.mark.parametrize("kind", ODD)
def test_other_files_are_evidence_or_none(tmp_path: Path, kind: str) -> None:
    """In the place of every one at once: the leaves are as they are, it takes little memory, and nothing is logged.

    A huge /proc/stat is left out: prometheus_client reads it too, to its end.
    """
    odd = odd_file(tmp_path, kind)
    places = {*EVIDENCE, f"{CPUS}/isolated"} - ({"/proc/stat"} if kind == "huge" else set())
    under = seeing(*(instead(path, odd) for path in sorted(places)))
    with exporter() as usual, exporter(under=under, environment=UNMEASURED) as running:
        expected, found = usual.scrape(), running.scrape()
        assert memory(running, "VmHWM") < memory(usual, "VmHWM") + 16
        assert running.stop() == 0
        assert errors(running) == []
    for name in ("kvm_present", "kvm_feature_offered", "kvm_cpus", "kvm_cpu_register", "kvm_exporter_sample_success"):
        assert found.series(name) == expected.series(name)
    assert found.value("kvm_exporter_collector_success", collector="guest") == (kind not in {"empty", "unreadable"})
    assert found.series("kvm_feature_in_use").items() <= expected.series("kvm_feature_in_use").items()


# Numbers of CPUs.


def test_cpus_that_cannot_be_reached_do_not_hide_the_others(tmp_path: Path) -> None:
    """Numbers around the 1,024 of a fixed mask, with holes: the kernel says that it has none of them, and so do we."""
    online = tmp_path / "online"
    online.write_text("0,1022-1025,4095,8191\n")
    with exporter("--collector.cpu-features", under=seeing(instead(f"{CPUS}/online", online))) as running:
        scrape = running.scrape()
        page = running.get("/")
        assert running.stop() == 0
        assert errors(running) == []
    assert scrape.values("kvm_cpus", "state") == {("sampled",): 1, ("retained",): 0, ("skipped",): 0, ("failed",): 6}
    assert scrape.value("kvm_cpus_online") == 7
    assert set(scrape.values("kvm_cpu_register", "cpu", "register")) == {("0", "eax"), ("0", "edx")}
    for cpu in (1022, 1023, 1024, 1025, 4095, 8191):
        assert f"CPU {cpu} failed: it is outside this process&#x27;s cpuset, or it went offline" in page


def test_where_another_list_of_cpus_is_shown_the_allowed_ones_are_read(tmp_path: Path) -> None:
    """LXCFS shows CPUs that the cpuset does not allow: those that the process may run on are sampled, and dumped."""
    online = tmp_path / "online"
    online.write_text("4095\n")
    under = seeing(instead(f"{CPUS}/online", online))
    with exporter(under=under) as running:
        scrape = running.scrape()
        assert running.get("/-/ready") == "kvm-exporter is ready.\n"
        assert running.stop() == 0
        assert "CPU 4095 of /sys/devices/system/cpu/online cannot be read; sampling CPU " in "".join(running.log)
    allowed = len(os.sched_getaffinity(0))
    assert scrape.values("kvm_cpus", "state")["sampled",] == allowed
    assert scrape.value("kvm_cpus_online") == allowed
    assert scrape.value("kvm_exporter_sample_success") == 1
    command = [*under, sys.executable, "-m", "kvm_exporter", "dump"]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True).stdout
    assert dumped.count("CPU ") == allowed


EAX, LESS = 0x0100_7EFB, 0x0100_007B


@pytest.mark.parametrize("hole", [range(0), range(1, 4096, 2), range(1000, 1100)], ids=["none", "odd", "in the middle"])
def test_4096_cpus(hole: range) -> None:
    """Out of a dump, each of them is sampled and shown by its number, and two that differ are named."""
    ids = sorted(set(range(4096)) - set(hole))
    odd = {ids[-1], min(ids, key=lambda cpu: abs(cpu - 1024))}
    words = {cpu: LESS if cpu in odd else EAX for cpu in ids}
    dump = Dump({cpu: {(leaf, 0): row for leaf, row in kvm_rows(word).items()} for cpu, word in words.items()})
    sample = sweep(parse_dump(format_dump(dump).encode()), CpuSelection(), None)
    assert sample.divergent == tuple(sorted(odd))
    scrape = Scrape(render(machine_families(sample), Format.TEXT_0_0_4).decode())
    registers = scrape.values("kvm_cpu_register", "cpu", "register")
    assert registers == {
        (str(cpu), register): value
        for cpu, word in words.items()
        for register, value in {"eax": word, "edx": 0}.items()
    }
    assert scrape.value("kvm_cpus_divergent") == len(odd)
    observation = Observation(sample)
    for text in (table(observation), landing_page(observation, findings(observation, None, success=True), {})):
        assert all(str(cpu) in text for cpu in odd)
        assert len(text) < 100_000
