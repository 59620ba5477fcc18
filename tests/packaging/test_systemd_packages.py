"""The Debian package comes, is upgraded, and goes: in a booted Debian 12, and the same package in Debian 13."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvm_exporter.collector.boot import FILE_NAME
from kvm_exporter.kvm.features import Feature, feature_named
from tests.support.packaging.container import EACH_SUITE, Container
from tests.support.packaging.debian import NAME, DebianPackage, build
from tests.support.packaging.installed import DEFAULTS, apt, install, system_with
from tests.support.packaging.unit import PORT, Unit, ask, scrape

OLDER = "0.0.1-1"

DROP_IN = f"/etc/systemd/system/{NAME}.service.d/mine.conf"

REFERENCE = f"run/private/{NAME}/{FILE_NAME}"

LOST = feature_named("eax_bit_30")

NOT_THE_PACKAGES = re.compile(r"/(proc|sys|dev|packages|run/host|var/(log|cache)|var/lib/(apt|dpkg))(/|$)")
"""Of the kernel, the container, and what apt and dpkg keep of every package that ever was."""

CONFIGURATION = ("/etc/", "/var/lib/systemd/deb-systemd-helper-enabled")
"""What a package that is removed leaves until it is purged; the second: which of its units were enabled."""


@pytest.fixture(scope="module")
def older_package(debian_package: DebianPackage) -> DebianPackage:
    """This tree as an older version, within reach of the same systems."""
    return build(debian_package.deb.parent / "older", OLDER)


@pytest.fixture(params=EACH_SUITE)
def system(
    request: pytest.FixtureRequest, older_package: DebianPackage, debian_package: DebianPackage
) -> Iterator[Container]:
    """A booted Debian that has never had the package, and both versions to install."""
    del older_package
    with system_with(request.param, debian_package.deb.parent) as booted:
        yield booted


def files(system: Container) -> set[str]:
    """Every file, folder and link, without those that other programs write, and of /run only what has our name."""
    found = set(system.run("find", "/", "-xdev").splitlines()) | set(system.run("find", "/run").splitlines())
    return {
        path for path in found if not NOT_THE_PACKAGES.match(path) and (NAME in path or not path.startswith("/run/"))
    }


def as_0_1_0_wrote(text: str, lost: Feature) -> str:
    """A boot reference without what version 0.1.0 did not keep, and with a feature that is not offered now."""
    now = json.loads(text)
    value = {key: now[key] for key in ("boot_id", "timestamp", "hypervisor_bit", "hypervisors", "kvm")}
    value["kvm"][lost.register] |= lost.mask
    return json.dumps(value)


def test_from_the_first_installation_to_the_last_trace(
    system: Container, debian_package: DebianPackage, older_package: DebianPackage
) -> None:
    """Installed, it runs; upgraded, it keeps its flags and its drift; removed, it is gone; purged, nothing is left."""
    service = Unit(system, f"{NAME}.service")
    before = files(system)

    install(system, older_package.deb.relative_to(debian_package.deb.parent))
    assert (service.show("ActiveState"), service.show("UnitFileState")) == ("active", "enabled")
    older = scrape(system)
    assert ("feature",) not in older.values("kvm_cpu_feature_offered")
    system.write(DEFAULTS, 'ARGS="--collector.cpu-features"\n')
    system.write(DROP_IN, "[Service]\nNice=1\n")
    reference = system.root / REFERENCE
    reference.write_text(as_0_1_0_wrote(reference.read_text(), LOST))

    install(system, Path(debian_package.deb.name))
    assert system.run("dpkg-query", "--show", "--showformat=${Version}", NAME) == debian_package.field("Version")
    assert (system.root / DEFAULTS.lstrip("/")).read_text() == 'ARGS="--collector.cpu-features"\n'
    assert (service.show("ActiveState"), service.show("Nice")) == ("active", "1")
    newer = scrape(system)
    assert newer.values("kvm_cpu_feature_offered", "cpu", "feature")
    taken = "kvm_boot_reference_timestamp_seconds"
    assert newer.value(taken) == older.value(taken)
    assert newer.values("kvm_boot_feature_changed", "feature") == {(LOST.name,): -1}
    assert newer.names.isdisjoint({"kvm_boot_reference_uptime_seconds", "kvm_boot_tsc_frequency_hertz"})
    assert f"changed since first sampled: lost {LOST.name}" in service.log()
    assert "1 feature lost since first sampled" in ask(system, "/").body

    apt(system, "remove", NAME)
    assert {path for path in files(system) - before if not path.startswith(CONFIGURATION)} == set()
    assert (system.root / DEFAULTS.lstrip("/")).exists()
    assert service.show("ActiveState") == "inactive"
    with pytest.raises(ConnectionRefusedError):
        system.connect(PORT)

    apt(system, "purge", NAME)
    assert files(system) - before == {str(Path(DROP_IN).parent), DROP_IN}
    assert before - files(system) == set()


def test_the_variant_on_a_socket(
    system: Container, debian_package: DebianPackage, older_package: DebianPackage
) -> None:
    """It is off until it is chosen; then an upgrade goes on with it, and removing the package ends it."""
    install(system, older_package.deb.relative_to(debian_package.deb.parent))
    socket, variant = Unit(system, f"{NAME}.socket"), Unit(system, f"{NAME}-socket.service")
    assert (socket.show("ActiveState"), socket.show("UnitFileState")) == ("inactive", "disabled")
    system.run("systemctl", "disable", "--now", f"{NAME}.service")
    system.run("systemctl", "enable", "--now", socket.name)
    older = scrape(system)
    pid = variant.pid

    install(system, Path(debian_package.deb.name))
    newer = scrape(system)
    assert (socket.show("ActiveState"), socket.show("UnitFileState")) == ("active", "enabled")
    assert Unit(system, f"{NAME}.service").show("ActiveState") == "inactive"
    assert variant.pid not in {0, pid}
    reference = "kvm_boot_reference_timestamp_seconds"
    assert newer.value(reference) == older.value(reference)

    apt(system, "purge", NAME)
    with pytest.raises(ConnectionRefusedError):
        system.connect(PORT)
    assert NAME not in system.run("systemctl", "list-units", "--all", "--no-legend")
