"""Bare Debian systems with nothing but git, make and curl: the README's lines, until a metric is scraped.

make installs there what it needs, from the mirror of this machine, as it does on a new machine.
"""

import re
import subprocess
from pathlib import Path

import pytest

from lab.tree import DASHBOARDS, REPOSITORY
from tests.support.packaging.container import SUITES, tree
from tests.support.packaging.debian import run
from tests.support.tools import program

DOWNLOAD_SECONDS = 3000
"""For a compiler and its friends, and a build, on a slow and busy machine: only a hang uses it up."""

README = (REPOSITORY / "README.md").read_text("utf-8")

PACKAGE = re.search(r"^Debian 12 and 13:\n\n((?:    .*\n)+)", README, re.MULTILINE)
"""The README's lines that install the exporter's package."""

RULES = re.search(r"^On the Prometheus server, .*:\n\n    (apt install .*)\n", README, re.MULTILINE)
"""The README's line that installs the package of the rules."""

SCRAPE = """
kvm-exporter --web.listen-address=127.0.0.1:0 2>/tmp/log &
until port=$(sed -n 's/.*listening on 127.0.0.1:\\([0-9]*\\) .*/\\1/p' /tmp/log) && [ -n "$port" ]; do sleep 0.2; done
curl -sf "127.0.0.1:$port/metrics"
kill %1
"""
"""Nothing boots here, so the service does not run; the program that was installed does, on another port."""

LINTIAN = """
apt-get install -q -y --no-install-recommends lintian
tags=out-of-date-standards-version
lintian --display-info --tag-display-limit=0 --fail-on=none --suppress-tags=$tags build/deb/*.changes
"""
"""The version of Debian's policy is that of Debian 12, whose lintian knows no later one."""


@pytest.fixture(params=SUITES)
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The files of a system without a compiler, with a clone of this repository in /src."""
    suite, root = request.param, tmp_path / "root"
    sources = (tree(suite) / "etc/apt/sources.list").read_text(encoding="utf-8")
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--include=ca-certificates,curl,git,make"]
    run(program(command[0]), *command[1:], suite, root, *sources.splitlines())
    run("git", "clone", "--quiet", REPOSITORY, root / "src")
    return root


def shell(root: Path, script: str) -> str:
    """What a script in the clone writes, run as root in the system at ``root`` with this machine's network."""
    nspawn = (program("systemd-nspawn"), "--quiet", "--register=no", "--keep-unit", "--pipe", f"--directory={root}")
    ended = subprocess.run(
        [*nspawn, "--setenv=DEBIAN_FRONTEND=noninteractive", "--chdir=/src", "bash", "-e", "-m", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DOWNLOAD_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


@pytest.mark.slow
def test_the_package_as_the_readme_says(bare: Path) -> None:
    """Its lines work the first time, the release's own lintian is silent, and the programs that were installed work."""
    assert PACKAGE is not None
    assert RULES is not None
    lines = [line.strip() for line in PACKAGE[1].splitlines()]
    assert [line.split()[0] for line in lines] == ["make", "apt", "curl"]
    make, install, _ = lines
    shell(bare, f"{make}\n{install.replace('apt install', 'apt install -y')}")
    assert "kvm_exporter_sample_success 1.0" in shell(bare, SCRAPE)
    shell(bare, f"{RULES[1].replace('apt install', 'apt install -y')}\nkvm-exporter-rules --output=build/rules")
    name = "machine-rules.yaml"
    assert (bare / "src/build/rules" / name).read_bytes() == (DASHBOARDS / name).read_bytes()
    assert re.findall("^[EWI]: .*", shell(bare, LINTIAN), re.MULTILINE) == []
