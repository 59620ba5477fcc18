"""packaging/ansible: Ansible accepts the playbook, and installs with it the exporter in a booted Debian."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from kvm_exporter import __version__
from lab.tree import REPOSITORY
from tests.support.packaging.container import Container, container
from tests.support.packaging.debian import NAME, PATH, run
from tests.support.packaging.unit import Unit, scrape
from tests.support.tools import missing, program

PLAYBOOK = REPOSITORY / "packaging/ansible/kvm-exporter.yml"

ENSUREPIP = ("/usr/lib/python3.11/ensurepip", "/usr/share/python-wheels")
"""What the Debian package python3-venv adds: it is on the machine that runs the tests, and lent to the other."""

SSH = """#!/bin/sh
for command; do :; done
exec {enter} sh -c "$command"
"""
"""Stands for ssh, whose last argument is the command: runs it in a container."""


def test_ansible_accepts_the_playbook() -> None:
    """By its syntax check, which knows keywords and modules, and runs nothing; it is for this version."""
    said = run(program("ansible-playbook"), "--inventory=guest,", "--syntax-check", PLAYBOOK, HOME="/nonexistent")
    assert said == f"\nplaybook: {PLAYBOOK}\n"
    [play] = yaml.safe_load(PLAYBOOK.read_text(encoding="utf-8"))
    assert play["vars"]["version"] == __version__


def play(machine: Container, folder: Path, archive: Path) -> str:
    """What Ansible prints at the end of the playbook, of one machine."""
    ssh = folder / "ssh"
    ssh.write_text(SSH.format(enter=shlex.join(machine.enter)))
    ssh.chmod(0o755)
    variables = {
        "ansible_ssh_executable": ssh,
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "archive": archive,
    }
    flags = [f"--extra-vars={name}={value}" for name, value in variables.items()]
    settings = {"HOME": str(folder), "ANSIBLE_PIPELINING": "1", "ANSIBLE_SSH_TRANSFER_METHOD": "piped"}
    ended = subprocess.run(
        [program("ansible-playbook"), "--inventory=guest,", *flags, PLAYBOOK],
        env={"PATH": PATH, "LC_ALL": "C.UTF-8", **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_it_installs_the_exporter(wheelhouse_archive: Path, tmp_path: Path) -> None:
    """The service runs with the playbook's flags; the second time, nothing changes."""
    if not all(map(os.path.exists, ENSUREPIP)):
        missing("python3-venv of Debian 12")
    with container("bookworm", *(f"--bind-ro={folder}" for folder in ENSUREPIP)) as machine:
        play(machine, tmp_path, wheelhouse_archive)
        service = Unit(machine, f"{NAME}.service")
        assert service.show("UnitFileState") == "enabled"
        assert "--log.level=info" in machine.run("cat", f"/proc/{service.pid}/cmdline").split("\0")
        assert scrape(machine).value("kvm_exporter_sample_success") == 1
        before = service.pid
        assert re.search(r"\bchanged=0 ", play(machine, tmp_path, wheelhouse_archive))
        assert service.pid == before
