"""scripts/system-packages: what it says before it installs anything, and what it leaves as it is.

The programs that it asks are stand-ins. apt-get answers as on a Debian 12 with an older systemd than the archive has.
"""

import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.tree import REPOSITORY
from tests.support.tools import program

REAL = ("sh", "awk", "dirname", "env", "sed", "tr")

OLD, LATEST = "252.38-1~deb12u1", "252.39-1~deb12u2"
"""The version of systemd that is installed, and that of the archive."""

STAND_INS = {
    "id": "echo 0",
    "apt-get": f"""
        echo "$*" >>"$LOG"
        case "$*" in
        update) exit ;;
        install*) echo "E: no space left"; exit "${{FAILS:-0}}" ;;
        *libsystemd-dev=*) ;;
        *libsystemd-dev*)
            echo "Inst systemd [{OLD}] ({LATEST} Debian:12.12/oldstable [amd64]) []"
            echo "Inst libsystemd0 [{OLD}] ({LATEST} Debian:12.12/oldstable [amd64])"
            echo "Inst libsystemd-dev ({LATEST} Debian:12.12/oldstable [amd64])"
        esac
        echo "Inst gcc (4:12.2.0-3 Debian:12.12/oldstable [amd64])"
        """,
    "apt-cache": 'test "$2" = "$ARCHIVE"',
    "python3": 'case $2 in *systemd.daemon*) exit 1 ;; *dist-packages*) test "$DEBIANS" ;; esac',
}
"""What is on PATH, without gcc and pkg-config. ARCHIVE is an older package there; DEBIANS: Python is Debian's own."""

FITTING = f"libsystemd-dev={OLD}"


class Ran(NamedTuple):
    """What the script has done."""

    code: int
    #: On standard error.
    said: str
    #: The calls of apt-get but for simulations.
    calls: list[str]


def run(folder: Path, kind: str = "build", **environment: str) -> Ran:
    """Run the script with the stand-ins, as root."""
    for name, text in STAND_INS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    for name in REAL:
        (folder / name).symlink_to(program(name))
    log = folder / "log"
    log.touch()
    ended = subprocess.run(
        [REPOSITORY / "scripts/system-packages", "python3", kind],
        env={"PATH": str(folder), "LOG": str(log), "ARCHIVE": "", "DEBIANS": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == ""
    calls = [line for line in log.read_text().splitlines() if "--simulate" not in line]
    return Ran(ended.returncode, ended.stderr, calls)


@pytest.mark.parametrize(
    ("kind", "environment", "packages", "upgraded"),
    [
        ("pictures", {}, "gcc pngquant", ""),
        ("build", {"ARCHIVE": FITTING}, f"gcc pkg-config {FITTING}", ""),
        ("build", {"ARCHIVE": FITTING, "DEBIANS": "yes"}, f"gcc pkg-config {FITTING}", ""),
        ("build", {"DEBIANS": "yes"}, "gcc python3-systemd", ""),
        ("build", {}, "gcc pkg-config libsystemd-dev", "; this upgrades systemd libsystemd0"),
    ],
    ids=["without libsystemd", "fits", "fits and Debian's Python", "Debian's Python", "neither"],
)
def test_what_is_installed_is_said_first(
    tmp_path: Path, kind: str, environment: dict[str, str], packages: str, upgraded: str
) -> None:
    """In one line, and what it upgrades apart from it; that is avoided where the archive or Debian's Python allows."""
    ran = run(tmp_path, kind, **environment)
    assert ran.said == f"kvm-exporter: installing {packages}{upgraded}\n"
    assert ran.calls == ["update", f"install -y --no-install-recommends {packages}"]
    assert ran.code == 0


def test_nothing_is_missing(tmp_path: Path) -> None:
    """Nothing is said or asked."""
    assert run(tmp_path, "venv") == (0, "", [])


def test_nothing_is_installed_if_that_is_not_wanted(tmp_path: Path) -> None:
    """The command is printed, with what it would upgrade, and the target fails."""
    command = "apt-get update && apt-get install -y --no-install-recommends gcc pkg-config libsystemd-dev"
    ran = run(tmp_path, NO_INSTALL="1")
    assert ran.said.splitlines() == [
        "kvm-exporter: packages are missing; run this and try again (it upgrades systemd libsystemd0):",
        f"    {command}",
    ]
    assert (ran.code, ran.calls) == (1, [])


def test_a_failure_is_shown(tmp_path: Path) -> None:
    """What apt-get says is hidden while all goes well, and shown if it fails."""
    ran = run(tmp_path, "pictures", FAILS="100")
    assert (ran.code, ran.said) == (1, "kvm-exporter: installing gcc pngquant\nE: no space left\n")
