"""The README's ways to install, line for line, in bare Debian systems: each ends with a scraped metric.

make installs there what it needs, from the mirror and the package index of this machine, as it does on a new one. What
it builds is installed in other systems, which have booted, as the README advises.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from benchmarks.programs import free_port
from lab.patience import PATIENCE_SECONDS
from lab.scrape import Scrape
from lab.tree import DASHBOARDS, REPOSITORY
from tests.support.packaging.container import SUITES, CommandError, Container, bare, booted
from tests.support.packaging.debian import NAME, run
from tests.support.packaging.deploying import COMMANDS
from tests.support.packaging.distribution import OLDEST_GLIBC, needed_glibc
from tests.support.packaging.readme import step
from tests.support.packaging.unit import Unit
from tests.support.tools import program

pytestmark = pytest.mark.slow

DOWNLOAD_SECONDS = 3000
"""For a compiler and its friends, and a build, on a slow and busy machine: only a hang uses it up."""

BOOTED = ("systemd", "systemd-sysv", "dbus", "curl")
"""What a system boots with, and the README's last line."""

CLONE = step("In a clone of the repository")
PACKAGE = step("**Debian 12 and 13:**")
RULES = step("**The Prometheus server**")
IMAGE = step("**Podman by hand**")
PIP = step("**Elsewhere with systemd:**")

SHARED = ("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs/ca-certificates.crt")
"""Where this machine may say from which index pip installs, and whose certificate that has."""

UNLIMITED = "[containers]\npids_limit = 0\n"
"""For a kernel whose controllers belong to control groups of version 1: there are none in the booted system."""

WITH_RUNC = '[engine]\nruntime = "runc"\n'
"""For a machine whose root may not raise limits: crun of Debian 12 has to, ebpf.c, and its runc goes on without."""

CAP_SYS_RESOURCE = 24

LINTIAN = """
apt-get install -q -y --no-install-recommends lintian
tags=out-of-date-standards-version
lintian --display-info --tag-display-limit=0 --fail-on=none --suppress-tags=$tags build/deb/*.changes
"""
"""The version of Debian's policy is that of Debian 12, whose lintian knows no later one."""

SERVED_AT = """
{} &
until curl --silent --fail --output /tmp/page ADDRESS/metrics; do kill -0 $!; sleep 0.5; done
grep ^kvm_exporter_sample_success /tmp/page
"""
"""Once it serves, the system ends, and all that runs in it."""

SERVED = "until {}; do sleep 0.2; done"
"""The README's last line, as often as it takes: a service that systemd calls started may not serve yet."""


def shell(root: Path, script: str, *flags: str) -> str:
    """What a script in the clone writes, run as root in the system at ``root`` with this machine's network."""
    nspawn = (program("systemd-nspawn"), "--quiet", "--register=no", "--keep-unit", "--pipe", f"--directory={root}")
    ended = subprocess.run(
        [*nspawn, "--setenv=DEBIAN_FRONTEND=noninteractive", "--chdir=/src", *flags, "bash", "-e", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DOWNLOAD_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def installed(root: Path) -> dict[str, str]:
    """The versions of what is installed in a system, by name."""
    return dict(line.split() for line in run("dpkg-query", f"--root={root}", "--show").splitlines())


@pytest.fixture(scope="module", params=SUITES)
def building(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system without a compiler, with a clone of this repository in /src."""
    root = bare(tmp_path_factory.mktemp("building"), request.param, *CLONE.packages, "ca-certificates", "curl")
    run("git", "clone", "--quiet", REPOSITORY, root / "src")
    return root


@pytest.fixture
def suite(building: Path) -> str:
    """The release that is built on."""
    return building.name.partition("-")[0]


Timed = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def timed(suite: str, figure: Callable[[str], None]) -> Timed:
    """Have it printed at the end of the run how many seconds a block took that did something."""

    @contextmanager
    def measured(what: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        figure(f"{suite}: {what}, {time.monotonic() - begin:.0f} s")

    return measured


def make(building: Path, line: str, script: str = "{}") -> str:
    """Have made what the README says, in the system that builds, as part of a script. Return what that wrote."""
    assert line.startswith("make ")
    settings = [f"--setenv={name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
    files = [f"--bind-ro={path}" for path in SHARED if Path(path).exists()]
    return shell(building, script.format(line), *settings, *files)


def may_raise_limits() -> bool:
    """Whether root has CAP_SYS_RESOURCE on this machine."""
    capabilities = re.search(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return capabilities is not None and bool(int(capabilities[1], 16) >> CAP_SYS_RESOURCE & 1)


def scraped(system: Container, line: str) -> Scrape:
    """What the README's last line shows in a system that has booted."""
    assert line.startswith("curl ")
    return Scrape(system.run("timeout", str(PATIENCE_SECONDS), "sh", "-c", SERVED.format(line.replace("-s ", "-sf "))))


def test_make_run(building: Path, timed: Timed) -> None:
    """It says in two lines what it installs, beside pip's warnings, and serves; nothing is upgraded for it."""
    run_it, _ = (line.partition("#")[0].strip() for line in CLONE.lines)
    address = f"127.0.0.1:{free_port()}"
    before = installed(building)
    with timed(run_it):
        said = make(building, f"{run_it} ADDRESS={address}", SERVED_AT.replace("ADDRESS", address))
    before_it, served, _ = said.partition("\nkvm_exporter_sample_success 1.0\n")
    assert served
    lines = [line for line in before_it.splitlines() if not line.startswith(("WARNING: ", "ts="))]
    assert [line.partition(" installing ")[0] for line in lines] == ["kvm-exporter:"] * 2, said
    after = installed(building)
    assert {name: after[name] for name in before} == before


def test_the_package(building: Path, suite: str, tmp_path: Path, timed: Timed) -> None:
    """It is built, installed by apt, and serves; the release's own lintian is silent; the same for the rules."""
    built, install, asked = PACKAGE.lines
    with timed(built):
        make(building, built)
    root = bare(tmp_path, suite, *BOOTED)
    run("cp", "--archive", building / "src", root / "src")
    with timed("apt install"):
        shell(root, f"apt-get update\n{install.replace('apt install', 'apt install -y')}")
    with booted(root) as system:
        assert scraped(system, asked).value("kvm_exporter_sample_success") == 1
    [rules] = RULES.lines
    shell(root, f"{rules.replace('apt install', 'apt install -y')}\nkvm-exporter-rules --output=build/rules")
    name = "machine-rules.yaml"
    assert (root / "src/build/rules" / name).read_bytes() == (DASHBOARDS / name).read_bytes()
    assert re.findall("^[EWI]: .*", shell(root, LINTIAN), re.MULTILINE) == []


def test_pip(building: Path, suite: str, tmp_path: Path, timed: Timed) -> None:
    """The release's own pip builds the wheels; one without compiler, headers and network installs them, and serves.

    The exporter loads the libsystemd of its wheel. The lines of docs/deploying.md do the same, on an installed one too.
    """
    with timed("make dist"):
        said = make(building, "make dist")
    newer = needed_glibc(building / "src/dist/wheelhouse") > OLDEST_GLIBC
    assert newer is (suite != "bookworm") is ("build them on Debian 12" in said)
    root = bare(tmp_path, suite, *BOOTED, *PIP.packages)
    run("cp", "--archive", building / "src/dist", root / "dist")
    *typed, asked = PIP.lines
    [page] = [block for block in COMMANDS if "bin/kvm-exporter units" in block]
    with booted(root) as system:
        for missing in ("command -v cc gcc", "ls /usr/include/systemd", "tail -n +2 /proc/net/route | grep ."):
            with pytest.raises(CommandError):
                system.run("sh", "-c", missing)
        with timed("the lines of pip"):
            system.run("sh", "-e", "-c", "\n".join(["cd /", *typed]))
            scrape = scraped(system, asked)
        assert scrape.value("kvm_exporter_sample_success") == 1
        service = Unit(system, f"{NAME}.service")
        assert service.show("UnitFileState") == "enabled"
        maps = system.run("cat", f"/proc/{service.pid}/maps")
        system.run("sh", "-e", "-c", f"cd /\n{page}")
    [library] = set(re.findall(r"\S*/libsystemd\S*", maps))
    assert library.startswith("/opt/kvm-exporter/lib/")


def test_the_image(building: Path, suite: str, tmp_path: Path, timed: Timed) -> None:
    """It is built from the release's packages, and that release's own Podman runs it and publishes its port."""
    built, *typed, asked = IMAGE.lines
    with timed(built):
        make(building, built)
    root = bare(tmp_path, suite, *BOOTED, "podman", "runc", recommended=True)
    image = "build/image"
    (root / image).parent.mkdir()
    run("cp", "--archive", building / "src" / image, root / image)
    # The storage is in memory, as overlays cannot be stacked; root has all that Podman needs but for keyrings.
    with (
        booted(root, "--tmpfs=/var/lib/containers", "--system-call-filter=@keyring") as system,
        timed("the lines of Podman"),
    ):
        grouped = "pids" in (system.root / "sys/fs/cgroup/cgroup.controllers").read_text()
        runtime = "" if suite != "bookworm" or may_raise_limits() else WITH_RUNC
        system.write("/etc/containers/containers.conf", runtime + ("" if grouped else UNLIMITED))
        system.run("sh", "-e", "-c", "\n".join(["cd /", *typed]))
        assert scraped(system, asked).value("kvm_exporter_sample_success") == 1
