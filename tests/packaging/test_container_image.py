"""The container image: built from the Debian package, and run by Podman and crun as docs/containers.md says."""

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvm_exporter import __version__
from lab.notifications import Notifications
from lab.scrape import Scrape
from lab.tree import REPOSITORY
from tests.support.packaging import probe
from tests.support.packaging.container import bare, booted
from tests.support.packaging.debian import NAME, DebianPackage, run
from tests.support.packaging.podman import (
    INIT,
    RUNTIME_DIRECTORY,
    UNIT,
    Podman,
    cpu_quota,
    podman,
    unit_flags,
)
from tests.support.packaging.probe import WORKED
from tests.support.packaging.unit import Unit
from tests.support.packaging.unit import scrape as scrape_in
from tests.support.tools import program

pytestmark = pytest.mark.slow

CPUS = sorted(os.sched_getaffinity(0))
USER = "65532"
PACKAGES = "var/lib/dpkg/status.d/"

FLAGS = unit_flags()
"""Of podman run, by the keys of the unit. Ports and the directory of the machine are the tests' own."""

HARDENED = tuple(FLAGS[name] for name in ("ReadOnly", "ReadOnlyTmpfs", "DropCapability", "NoNewPrivileges", "Ulimit"))

ATTEMPTS = {
    "read /etc/shadow": "ENOENT",
    "become root": "EPERM",
    "packet socket": "EPERM",
    "raw socket": "EPERM",
    "execute /bin/sh": "ENOENT",
    "execute /usr/bin/env": "ENOENT",
    "real-time priority": "EPERM",
    "pin to a CPU": WORKED,
}
"""What an attacker meets who took over the exporter."""

MEMORY = {"/dev/mqueue", "/dev/shm", "/sys/fs/cgroup"}  # noqa: S108 - names of what the runtime mounts
"""Empty folders in memory that the runtime mounts, the last one where control groups are of version 1."""


def build(package: DebianPackage, folder: Path) -> Path:
    """The archive with the image, as ``make image`` makes it."""
    for needed in ("mmdebstrap", "umoci"):
        program(needed)
    return Path(run(REPOSITORY / "scripts/build-image", folder, package.deb).splitlines()[-1])


@pytest.fixture(scope="module")
def archive(debian_package: DebianPackage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of this tree."""
    return build(debian_package, tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def runtime(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """A Podman that has it."""
    with podman(tmp_path_factory.mktemp("podman"), archive) as made:
        yield made


@pytest.fixture
def state(runtime: Podman, tmp_path: Path) -> str:
    """A flag that mounts a directory for the boot reference, prepared as the DaemonSet's init container does it."""
    tmp_path.chmod(0o755)
    as_root = f"--user={INIT['securityContext']['runAsUser']}:{USER}"
    runtime.run(*HARDENED, as_root, f"--volume={tmp_path}:/state", command=INIT["command"])
    return f"--volume={tmp_path}:{RUNTIME_DIRECTORY}"


def sampled(scrape: Scrape) -> list[int]:
    """The CPUs whose registers are shown."""
    return sorted({int(cpu) for cpu, _ in scrape.values("kvm_cpu_register", "cpu", "register")})


def files(archive: Path) -> dict[str, tarfile.TarInfo]:
    """What is in the image's only layer, by path."""
    with tarfile.open(archive) as image:

        def blob(digest: str) -> Any:  # noqa: ANN401 - a file
            return image.extractfile(f"./blobs/{digest.replace(':', '/')}")

        [manifest] = json.load(image.extractfile("./index.json"))["manifests"]  # type: ignore[arg-type] # it is a file
        [layer] = json.load(blob(manifest["digest"]))["layers"]
        with tarfile.open(fileobj=blob(layer["digest"])) as unpacked:
            return {member.name.removeprefix("./"): member for member in unpacked.getmembers()}


def test_what_is_in_the_image(archive: Path, figure: Callable[[str], None]) -> None:
    """No shell, no package manager, nothing of the machine that built it, and no file that gives rights."""
    found = files(archive)
    packages = {name.removeprefix(PACKAGES) for name in found if name.startswith(PACKAGES)}
    assert {NAME, "base-files", "libc6", "python3-h11"} <= packages
    assert {"usr/bin/kvm-exporter", "usr/bin/python3", "etc/os-release"} <= set(found)
    assert {"usr/bin/sh", "usr/bin/perl", "usr/bin/dpkg", "usr/bin/apt-get"} & set(found) == set()
    assert [name for name in found if name.startswith(("etc/apt/", "etc/resolv", "etc/hostname", "var/cache/"))] == []
    assert [name for name, file in found.items() if not (file.isfile() or file.isdir() or file.issym())] == []
    assert [name for name, file in found.items() if file.isfile() and file.mode & 0o6002] == []
    size = sum(file.size for file in found.values())
    packed = archive.stat().st_size
    figure(f"{size / 1e6:.0f} MB in {len(found)} files of {len(packages)} packages, {packed / 1e6:.0f} MB packed")


def test_what_the_image_says_of_itself(runtime: Podman) -> None:
    """Its name, its user, and what it starts; the arguments are those of the program."""
    [found] = json.loads(runtime.ask("image", "inspect", runtime.image))
    config = found["Config"]
    assert runtime.image == f"localhost/{NAME}:{__version__}"
    assert (config["User"], config["Entrypoint"]) == (f"{USER}:{USER}", ["/usr/bin/kvm-exporter"])
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert (labels["title"], labels["version"], labels["licenses"]) == (NAME, __version__, "Apache-2.0")
    said = runtime.run(*HARDENED, arguments=("--version",))
    assert said == f"kvm-exporter {__version__} (revision {labels['revision']})\n"


def test_every_cpu_inside_a_cpu_quota(runtime: Podman) -> None:
    """A fifth of a CPU, as in the DaemonSet: the kernel holds the exporter to it, and it samples all of them."""
    with runtime.exporter("quota", *HARDENED, "--cpus=0.2") as running:
        scrape = running.scrape()
        share, waited = cpu_quota(runtime.pid("quota"))
    assert share == pytest.approx(0.2)
    assert waited > 0
    assert sampled(scrape) == CPUS
    assert scrape.value("kvm_exporter_sample_success") == 1


def test_a_cpu_mask_excludes_no_cpu(runtime: Podman) -> None:
    """The reading thread changes its own."""
    with runtime.exporter("mask", *HARDENED, under=(program("taskset"), "--cpu-list", str(CPUS[0]))) as running:
        assert sampled(running.scrape()) == CPUS


def test_a_cpuset_excludes_cpus(runtime: Podman) -> None:
    """Those outside count as failed, with the reason; with the list of the others, they count as skipped."""
    cpuset = f"--cpuset-cpus={CPUS[0]}"
    with runtime.exporter("cpuset", *HARDENED, cpuset) as running:
        scrape, page = running.scrape(), running.get("/")
    assert sampled(scrape) == CPUS[:1]
    assert scrape.value("kvm_cpus", state="failed") == len(CPUS) - 1
    assert f"CPU {CPUS[-1]} failed: it is outside this process&#x27;s cpuset, or it went offline" in page
    with runtime.exporter("cpuset", *HARDENED, cpuset, arguments=(f"--sample.cpus={CPUS[0]}",)) as running:
        assert running.scrape().value("kvm_cpus", state="skipped") == len(CPUS) - 1


def test_the_boot_reference_outlives_the_container(runtime: Podman, state: str) -> None:
    """In the directory that the init container prepared; without one it ends with the container, and that is said."""
    timestamps = []
    for volume in ((state,), (state,), ()):
        with runtime.exporter("reference", *HARDENED, *volume) as running:
            scrape = running.scrape()
        timestamps.append(scrape.value("kvm_boot_reference_timestamp_seconds"))
        assert scrape.value("kvm_boot_reference_persistent") == len(volume)
    assert timestamps[0] == timestamps[1] < timestamps[2]


def test_what_an_attacker_can_do_in_it(runtime: Podman, state: str) -> None:
    """With the system calls that Podman allows: pin to a CPU, and write into the directory of the reference."""
    script = f"--volume={probe.__file__}:/probe.py:ro"
    found = json.loads(runtime.run(*HARDENED, state, script, command=("python3", "/probe.py")))
    assert {name: found[name] for name in ATTEMPTS} == ATTEMPTS
    assert set(found["folders"]) - MEMORY == {RUNTIME_DIRECTORY}
    assert found["files"] == []


def test_systemd_is_told_and_the_health_check_works(runtime: Podman, manager: Notifications) -> None:
    """The unit is ready after the first sample, and its health check asks the exporter in there, at its usual port."""
    flags = (*HARDENED, FLAGS["Notify"], FLAGS["HealthCmd"])
    with runtime.exporter("healthy", *flags, network="none", environment=manager.environment):
        manager.until("READY")
        runtime.ask("healthcheck", "run", "healthy")


PAGE = (REPOSITORY / "docs/containers.md").read_text(encoding="utf-8")

PODMANS_SYSTEM = ("systemd", "systemd-sysv", "dbus", "podman", "nftables")
"""What Debian 13 boots with, and Podman 5."""

UNLIMITED = "[Container]\nPidsLimit=0\n"
"""For a kernel whose controllers belong to control groups of version 1: there are none in the booted system."""


def test_systemd_starts_podmans_unit(archive: Path, tmp_path: Path) -> None:
    """In a booted Debian 13, by the page's commands: Podman 5 makes a service of the unit, and it is scraped.

    The boot reference outlives the container, and systemd verifies the service without a word.
    """
    root = bare(tmp_path, "trixie", *PODMANS_SYSTEM)
    given = {f"/given/{UNIT.name}": UNIT, f"/given/{NAME}-{__version__}.tar": archive}
    shared = (f"--bind-ro={file}:{name}" for name, file in given.items())
    [commands] = re.findall(r"```sh\n(podman load[^`]*\.container[^`]*)curl ", PAGE)
    with booted(root, *shared, "--tmpfs=/var/lib/containers", "--system-call-filter=@keyring") as system:
        if "pids" not in (system.root / "sys/fs/cgroup/cgroup.controllers").read_text():
            system.write(f"/etc/containers/systemd/{UNIT.name}.d/unlimited.conf", UNLIMITED)
        system.run("sh", "-e", "-c", f"cd /given; {commands}")
        service = Unit(system, f"{NAME}.service")
        assert (service.show("UnitFileState"), service.show("ActiveState")) == ("generated", "active")
        assert service.name in system.run("systemctl", "list-dependencies", "--plain", "multi-user.target")
        assert system.run("systemd-analyze", "verify", "--man=no", service.show("FragmentPath")) == ""
        first = scrape_in(system)
        assert first.value("kvm_exporter_sample_success") == 1
        service.start()
        again = scrape_in(system)
    taken, started = "kvm_boot_reference_timestamp_seconds", "process_start_time_seconds"
    assert again.value(started) > first.value(started)
    assert (again.value(taken), again.value("kvm_boot_reference_persistent")) == (first.value(taken), 1)


def test_the_same_packages_give_the_same_bytes(debian_package: DebianPackage, archive: Path, tmp_path: Path) -> None:
    """Whenever, and in whichever folder it is built."""
    assert build(debian_package, tmp_path).read_bytes() == archive.read_bytes()
