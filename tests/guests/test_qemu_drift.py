"""Leaves that change under a running stock kernel, while the exporter serves in it all the time."""

from dataclasses import dataclass, field

import pytest

from lab.scrape import Scrape
from tests.support.guests.inside import ServingExporter
from tests.support.guests.twolevel import Hypervisor, Laboratory

ALWAYS = "--sample.max-age=1us"
"""Every scrape finds the sample too old, and takes another."""

ALL = 0x01007AFB
"""What QEMU's -cpu host offers, and what the kernel found when it booted."""


@dataclass(frozen=True, slots=True)
class Station:
    """A mask that the guest comes to, and what it offers."""

    cpu: str
    word: int
    present: bool = True
    #: KVM's signature is gone, or no longer alone, or at another base.
    signature_changed: bool = False

    @property
    def lost(self) -> int:
        """The bits that the kernel found at boot and that are no longer offered."""
        return ALL & ~self.word


STATIONS = {
    "unhalt lost": Station("host,-kvm-pv-unhalt", 0x01007A7B),
    "kvmclock lost": Station("host,-kvmclock", 0x01007AF2),
    "KVM hidden": Station("host,kvm=off", 0, present=False, signature_changed=True),
    "beside Hyper-V": Station("host,hv-relaxed,hv-vapic,hv-time", ALL, signature_changed=True),
    "home again": Station("host", ALL),
}


@dataclass(slots=True)
class Journey:
    """What the exporter said on the way."""

    before: Scrape
    scrapes: dict[str, Scrape] = field(default_factory=dict)
    identities: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def journey(laboratory: Laboratory) -> Journey:
    """One guest that moves from station to station, and the first scrape at each."""

    def experiment(hypervisor: Hypervisor) -> Journey:
        with hypervisor.guest("host") as guest:
            exporter = ServingExporter(guest.shell, ALWAYS)
            journey = Journey(exporter.scrape(), identities={exporter.identity()})
            for name, station in STATIONS.items():
                guest.move(station.cpu)
                journey.scrapes[name] = exporter.scrape()
                journey.identities.add(exporter.identity())
            return journey

    return laboratory.attempt(experiment)


def test_nothing_is_lost_before(journey: Journey) -> None:
    """Where it booted, the guest is offered what it found, and the exporter says that nothing has changed."""
    assert_offered(journey.before, ALL)
    assert_changed_since_boot(journey.before, 0, signature_changed=False)
    assert journey.before.value("kvm_exporter_sample_changes_total") == 0


@pytest.mark.parametrize("name", STATIONS)
def test_change_of_host_is_seen_in_the_next_scrape(journey: Journey, name: str) -> None:
    """At each station the bits show, and what was lost since boot is named."""
    station, scrape = STATIONS[name], journey.scrapes[name]
    assert scrape.value("kvm_present") == station.present
    assert_offered(scrape, station.word)
    assert_changed_since_boot(scrape, station.lost, signature_changed=station.signature_changed)


def test_every_change_counts(journey: Journey) -> None:
    """The counter of changes goes up by one at every station: a move in mid-sweep is not two changes."""
    counted = [scrape.value("kvm_exporter_sample_changes_total") for scrape in journey.scrapes.values()]
    assert counted == [1, 2, 3, 4, 5]


def test_kernel_goes_on_using_what_was_lost(journey: Journey) -> None:
    """The kernel read the leaf at boot: kvm-clock stays its clocksource, and in use, when it is offered no more."""
    scrape = journey.scrapes["kvmclock lost"]
    assert scrape.value("kvm_feature_offered", feature="clocksource2") == 0
    assert scrape.value("kvm_feature_in_use", feature="clocksource2") == 1
    assert scrape.value("kvm_clocksource_current_is_kvmclock") == 1


def test_daemon_lives_through_it_all(journey: Journey) -> None:
    """It is the same process in the same boot at every station, and every sample succeeded."""
    assert len(journey.identities) == 1
    for scrape in journey.scrapes.values():
        assert scrape.value("kvm_exporter_sample_success") == 1
        assert scrape.values("kvm_exporter_sample_failures_total", "cause") == {("error",): 0, ("timeout",): 0}


def assert_offered(scrape: Scrape, word: int) -> None:
    """The gauges of the feature bits that were found at boot are those of a word; both CPUs were read."""
    offered = scrape.values("kvm_feature_offered", "register", "bit")
    assert {bit: offered["eax", bit] for bit in bits(ALL)} == {bit: word >> int(bit) & 1 for bit in bits(ALL)}
    assert scrape.values("kvm_cpus", "state")["sampled",] == 2
    assert scrape.value("kvm_cpus_divergent") == 0


def assert_changed_since_boot(scrape: Scrape, lost: int, *, signature_changed: bool) -> None:
    """Bits of EAX are lost since boot, and no other bit has changed."""
    assert scrape.values("kvm_boot_feature_changed", "register", "bit") == {("eax", bit): -1 for bit in bits(lost)}
    assert scrape.values("kvm_boot_feature_changes", "change") == {("lost",): lost.bit_count(), ("gained",): 0}
    assert scrape.value("kvm_boot_signature_changed") == signature_changed


def bits(word: int) -> list[str]:
    """The numbers of the bits that are set, as labels have them."""
    return [str(bit) for bit in range(32) if word >> bit & 1]
