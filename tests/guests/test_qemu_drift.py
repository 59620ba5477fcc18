"""Leaves that change under a running stock kernel, while the exporter serves in it all the time."""

from dataclasses import dataclass, field

import pytest

from lab.scrape import Scrape
from tests.support.guests.inside import PORT, ServingExporter
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


USED_LOST = "kvmclock and steal time lost"
"""The station where exporters start that have not seen what the kernel found at boot."""

STATIONS = {
    "unhalt lost": Station("host,-kvm-pv-unhalt", 0x01007A7B),
    USED_LOST: Station("host,-kvmclock,-kvm-steal-time", 0x01007AD2),
    "KVM hidden": Station("host,kvm=off", 0, present=False, signature_changed=True),
    "beside Hyper-V": Station("host,hv-relaxed,hv-vapic,hv-time", ALL, signature_changed=True),
    "home again": Station("host", ALL),
}


DAY = 86_400

STEAL_TIME = """
busy() { while grep -q '^cpu .* 0 0 0$' /proc/stat; do :; done; }
busy & busy; wait $!
"""
"""Keeps both vCPUs busy until the kernel has counted stolen time: they share the hypervisor's only processor."""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What an exporter says that started after the move."""

    scrape: Scrape
    status: str
    log: str


@dataclass(slots=True)
class Journey:
    """What the exporter said on the way, and others that started at USED_LOST."""

    before: Scrape
    scrapes: dict[str, Scrape] = field(default_factory=dict)
    identities: set[str] = field(default_factory=set)
    newcomers: dict[str, Newcomer] = field(default_factory=dict)


@pytest.fixture(scope="module")
def journey(laboratory: Laboratory) -> Journey:
    """One guest that moves from station to station, and the first scrape at each."""

    def experiment(hypervisor: Hypervisor) -> Journey:
        with hypervisor.guest("host") as guest:
            exporter = ServingExporter(guest.shell, ALWAYS)
            journey = Journey(exporter.scrape(), identities={exporter.identity()})
            newcomers: dict[str, ServingExporter] = {}
            guest.shell.run(STEAL_TIME)
            for name, station in STATIONS.items():
                guest.move(station.cpu)
                journey.scrapes[name] = exporter.scrape()
                journey.identities.add(exporter.identity())
                if name == USED_LOST:
                    newcomers["restarted"] = ServingExporter(guest.shell, port=PORT + 1)
                    newcomers["late"] = ServingExporter(guest.shell, ALWAYS, port=PORT + 2, after_boot=200 * DAY)
                    journey.newcomers = {name: said(newcomer) for name, newcomer in newcomers.items()}
            journey.newcomers["late, at home"] = said(newcomers["late"])
            return journey

    return laboratory.attempt(experiment)


def said(exporter: ServingExporter) -> Newcomer:
    """What it says now."""
    return Newcomer(exporter.scrape(), exporter.status(), exporter.log())


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
    scrape = journey.scrapes[USED_LOST]
    assert scrape.value("kvm_feature_offered", feature="clocksource2") == 0
    assert scrape.value("kvm_feature_in_use", feature="clocksource2") == 1
    assert scrape.value("kvm_clocksource_current_is_kvmclock") == 1


@pytest.mark.parametrize("name", ["restarted", "late"])
def test_who_starts_after_a_move_has_the_kernels_word_alone(journey: Journey, name: str) -> None:
    """Its reference lacks what was lost, is in memory, and says so. What the kernel shows to use is found."""
    newcomer = journey.newcomers[name]
    assert_offered(newcomer.scrape, STATIONS[USED_LOST].word)
    assert_changed_since_boot(newcomer.scrape, 0, signature_changed=False)
    assert newcomer.scrape.value("kvm_boot_reference_persistent") == 0
    for feature in ("clocksource2", "steal_time"):
        assert newcomer.scrape.value("kvm_feature_in_use", feature=feature) == 1
    assert "Used, not offered: clocksource2 (eax bit 3), steal_time (eax bit 5)" in newcomer.status
    assert "oot reference in memory only" in newcomer.status
    assert "the boot reference is in memory only" in newcomer.log
    assert "nothing changed" not in newcomer.status


def test_late_start_tells_how_late(journey: Journey) -> None:
    """The reference's uptime is on the guest's own clock; what comes back is a gain since then, not since the boot."""
    late, early, home = (journey.newcomers[name] for name in ("late", "restarted", "late, at home"))
    name = "kvm_boot_reference_uptime_seconds"
    assert late.scrape.value(name) - early.scrape.value(name) >= 200 * DAY
    assert "features gained since first sampled, 200 days after boot" in home.status
    assert "not offered" not in home.status
    assert "since boot" not in late.status + home.status + home.log


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
