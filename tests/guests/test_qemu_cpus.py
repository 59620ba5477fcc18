"""The CPUs of a stock guest: one that is offered less than the other, and one that goes offline and comes back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from lab.scrape import Scrape
from tests.support.guests.inside import ServingExporter, show
from tests.support.guests.twolevel import Guest, Hypervisor, Laboratory

ALWAYS = "--sample.max-age=1us"
"""Every scrape finds the sample too old, and takes another."""

ALL = 0x01007AFB
"""What QEMU's -cpu host offers."""

PV_UNHALT = 1 << 7

OTHER_CPU = ("-smp", "1,maxcpus=2,sockets=2", "-device", "host-x86_64-cpu,socket-id=1,core-id=0,thread-id=0")
"""A second vCPU that is given leaves of its own."""


@dataclass(frozen=True, slots=True)
class Split:
    """A guest whose second vCPU loses a bit under the running kernel."""

    before: Scrape
    after: Scrape
    shown: Mapping[str, Any]


@pytest.mark.slow
def test_one_cpu_that_differs_is_named(laboratory: Laboratory) -> None:
    """A bit that is lost on one vCPU alone is told with the CPU's number, and is no loss to the machine."""

    def experiment(hypervisor: Hypervisor) -> Split:
        with hypervisor.guest("host", OTHER_CPU) as guest:
            exporter = ServingExporter(guest.shell, ALWAYS)
            before = exporter.scrape()
            guest.move("host", [*OTHER_CPU[:-1], f"{OTHER_CPU[-1]},kvm-pv-unhalt=off"])
            return Split(before, exporter.scrape(), show(guest.shell))

    split = laboratory.attempt(experiment)
    assert split.before.value("kvm_cpus_divergent") == 0
    assert split.after.value("kvm_cpus_divergent") == 1
    assert split.after.values("kvm_cpu_register", "cpu", "register") == {
        ("0", "eax"): ALL,
        ("1", "eax"): ALL & ~PV_UNHALT,
        ("0", "edx"): 0,
        ("1", "edx"): 0,
    }
    assert split.after.value("kvm_feature_offered", feature="pv_unhalt") == 1
    assert split.after.value("kvm_feature_offered_cpus", feature="pv_unhalt") == 1
    assert_as_at_boot(split.after)
    [divergent] = split.shown["divergent"]
    assert divergent["cpu"] == 1
    assert (divergent["lacks"], divergent["has"]) == (["pv_unhalt"], [])
    assert "pv_unhalt (eax bit 7)" in divergent["difference"]


@dataclass(frozen=True, slots=True)
class Unplugging:
    """A CPU that goes offline and comes back."""

    before: Scrape
    without: Scrape
    after: Scrape
    allowed_cpus: set[str]


@pytest.mark.slow
def test_cpu_offline_and_online_again(laboratory: Laboratory) -> None:
    """The next scrape knows which CPUs there are; nothing else changes, and the daemon may run on both again."""

    def experiment(hypervisor: Hypervisor) -> Unplugging:
        with hypervisor.guest("host") as guest:
            exporter = ServingExporter(guest.shell)
            before = exporter.scrape()
            plug(guest, online=False)
            without = exporter.scrape()
            plug(guest, online=True)
            return Unplugging(before, without, exporter.scrape(), exporter.allowed_cpus())

    seen = laboratory.attempt(experiment)
    scrapes = (seen.before, seen.without, seen.after)
    assert [scrape.value("kvm_cpus_online") for scrape in scrapes] == [2, 1, 2]
    assert [scrape.values("kvm_cpus", "state")["sampled",] for scrape in scrapes] == [2, 1, 2]
    assert [scrape.values("kvm_exporter_samples_total", "reason")["hotplug",] for scrape in scrapes] == [0, 1, 2]
    assert [scrape.value("kvm_exporter_sample_changes_total") for scrape in scrapes] == [0, 0, 0]
    for scrape in scrapes:
        assert scrape.values("kvm_cpus", "state")["failed",] == 0
        assert scrape.values("kvm_feature_offered", "feature") == seen.before.values("kvm_feature_offered", "feature")
        assert_as_at_boot(scrape)
    assert seen.allowed_cpus == {"0-1"}


def plug(guest: Guest, *, online: bool) -> None:
    """Take the second CPU from the kernel, or give it back."""
    guest.shell.run(f"echo {online:d} >/sys/devices/system/cpu/cpu1/online")


def assert_as_at_boot(scrape: Scrape) -> None:
    """What the machine offers has not changed since boot."""
    assert scrape.values("kvm_boot_feature_changes", "change") == {("lost",): 0, ("gained",): 0}
    assert scrape.value("kvm_boot_signature_changed") == 0
