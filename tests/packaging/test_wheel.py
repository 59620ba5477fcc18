"""What ships: an sdist, the wheel that is built from it, and the program that the wheel installs."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from kvm_exporter import __version__
from lab.exporter import exporter
from tests.support.packaging.distribution import OLDEST_GLIBC, run
from tests.support.tree import tracked


def pythons() -> list[Path]:
    """Every Python from 3.11 on that this machine has, the running one among them, once each."""
    folders: list[str | Path] = [
        *os.environ["PATH"].split(":"),
        "/usr/bin",
        "/usr/local/bin",
        *Path.home().glob(".pyenv/versions/*/bin"),
    ]
    found = {sys.base_prefix: Path(sys.base_prefix, "bin", "python3")}
    for candidate in sorted(path for folder in folders for path in Path(folder).glob("python3.*")):
        version = re.fullmatch(r"python3\.(\d+)", candidate.name)
        if version is None or int(version[1]) < 11:
            continue
        # One of pyenv's shims may stand for a version that is not chosen, and fails.
        asked = subprocess.run(
            [candidate, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, check=False
        )
        if asked.returncode == 0:
            found.setdefault(asked.stdout.decode().strip(), candidate)
    return list(found.values())


def each_python() -> list[ParameterSet]:
    """The same; make test has the running one, make test-all the others too."""
    running, *others = pythons()
    return [
        pytest.param(running, id=str(running)),
        *(pytest.param(other, id=str(other), marks=pytest.mark.slow) for other in others),
    ]


def test_the_sdist_has_everything(distribution: Path) -> None:
    """All that git knows but what only git and CI read; the revision; and no compiled file."""
    with tarfile.open(distribution / f"kvm_exporter-{__version__}.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert tracked() - names == {".ci/run", ".gitattributes", ".github/workflows/release.yml", ".gitignore"}
    assert "kvm_exporter/_revision.py" in names
    assert [name for name in names if name.endswith((".so", ".o", ".pyc"))] == []


def test_the_wheel_is_for_every_python_from_3_11_on(wheel: Path) -> None:
    """One wheel for an architecture, also with old C libraries; the extension is of the ABI that the tag names."""
    tags = re.escape(f"kvm_exporter-{__version__}-cp311-abi3-") + r"(?:manylinux\d+_\w+\.)?manylinux_2_(\d+)_\w+\.whl"
    tag = re.fullmatch(tags, wheel.name)
    assert tag is not None
    assert int(tag[1]) <= OLDEST_GLIBC
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "kvm_exporter/_cpuid.abi3.so" in names
    assert "kvm_exporter/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {"kvm_exporter", f"kvm_exporter-{__version__}.dist-info"}


def test_an_index_would_take_it(distribution: Path, wheel: Path) -> None:
    """Tools that know packages and indexes have nothing to say: of the metadata, the content, the ABI."""
    sdist = distribution / f"kvm_exporter-{__version__}.tar.gz"
    scripts = Path(sysconfig.get_path("scripts"))
    run(scripts / "twine", "check", "--strict", sdist, wheel, cwd=distribution)
    run(scripts / "check-wheel-contents", wheel, cwd=distribution)
    run(scripts / "abi3audit", "--strict", wheel, cwd=distribution)
    run(scripts / "pyroma", "--min=10", sdist, cwd=distribution)


def test_the_metadata(wheel: Path) -> None:
    """The licence is an SPDX expression, and no link in the text needs a file beside it."""
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"kvm_exporter-{__version__}.dist-info/METADATA").decode()
    metadata = message_from_string(text)
    assert metadata["License-Expression"] == "Apache-2.0"
    [source] = metadata.get_all("Project-URL", [])
    links = re.findall(r"\]\(([^)]*)\)", text)
    published = source.removeprefix("Source, ")
    assert f"{published}/docs/deploying.md" in links
    assert [link for link in links if not link.startswith("https://")] == []


@pytest.mark.parametrize("interpreter", each_python())
def test_what_the_wheel_installs_runs(wheel: Path, interpreter: Path, tmp_path: Path) -> None:
    """In a venv of its own, with the libraries that pip finds for it, every part of the program works."""
    venv = tmp_path / "venv"
    run(interpreter, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    python = venv / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", wheel, cwd=tmp_path)
    where = run(python, "-c", "import kvm_exporter; print(kvm_exporter.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(venv)
    installed = venv / "bin" / "kvm-exporter"
    assert run(installed, "--version", cwd=tmp_path).startswith(f"kvm-exporter {__version__} (revision ")
    assert run(installed, "dump", cwd=tmp_path).startswith("CPU 0:\n")
    shown = subprocess.run([installed, "show"], capture_output=True, text=True, check=False)
    assert shown.returncode in {0, 3}
    assert shown.stdout.startswith(("KVM at ", "no KVM"))
    (tmp_path / "web.yml").write_text("basic_auth_users: {}\n")
    run(installed, "--web.config.file=web.yml", "--web.config.check", cwd=tmp_path)
    with exporter(program=(str(installed), "serve", "--web.listen-address=127.0.0.1:0")) as running:
        assert running.scrape().value("kvm_exporter_sample_success") == 1
