"""What ships: an sdist, the wheel that is built from it, and the program that the wheel installs.

The build fetches its requirements from the package index, as ``make dist`` does.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.tools import program

from kvm_exporter import __version__

REPOSITORY = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    """What a program prints; it must succeed."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTHON"))},
        "PIP_CONSTRAINT": str(REPOSITORY / "constraints.txt"),
    }
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist and a wheel, built from a copy of this tree: what git knows or would add."""
    folder = tmp_path_factory.mktemp("dist")
    tree = folder / "tree"
    listing = run(program("git"), "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=REPOSITORY)
    for name in listing.split("\0"):
        if name and (REPOSITORY / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, tree / name)
    shutil.copy2(REPOSITORY / "kvm_exporter/_revision.py", tree / "kvm_exporter")
    run(sys.executable, "-m", "build", "--outdir", folder, tree, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The only wheel."""
    [found] = built.glob("*.whl")
    return found


def test_the_sdist_has_what_a_wheel_is_built_from(built: Path) -> None:
    """The C file, its header and what tells cffi of them; and no compiled file."""
    with tarfile.open(built / f"kvm_exporter-{__version__}.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    sources = ("cpuid.c", "cpuid_api.h", "_cpuid_build.py", "_cpuid.pyi", "_revision.py", "py.typed", "cpuid.py")
    assert {f"kvm_exporter/{name}" for name in sources} <= names
    assert {
        "LICENSE",
        "Makefile",
        "constraints.txt",
        "tests/conftest.py",
        "demo/__main__.py",
        "scripts/system-packages",
    } <= names
    assert [name for name in names if name.endswith((".so", ".o", ".pyc"))] == []


def test_the_wheel_is_for_every_python_from_3_11_on(wheel: Path) -> None:
    """One wheel for an architecture: its tag says abi3, and so does the extension in it."""
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name == f"kvm_exporter-{__version__}-cp311-abi3-{platform}.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "kvm_exporter/_cpuid.abi3.so" in names
    assert "kvm_exporter/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {"kvm_exporter", f"kvm_exporter-{__version__}.dist-info"}


def test_what_the_wheel_installs_runs(wheel: Path, tmp_path: Path) -> None:
    """In a venv of its own, with the libraries of this one, the program says its version and reads this machine."""
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    python = venv / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    [packages] = venv.glob("lib/python*/site-packages")
    # A path from a .pth file comes last, and .pth files there do not count: not that of an editable install.
    (packages / "libraries.pth").write_text(sysconfig.get_path("platlib") + "\n")
    where = run(python, "-c", "import kvm_exporter; print(kvm_exporter.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(packages)
    installed = venv / "bin" / "kvm-exporter"
    assert run(installed, "--version", cwd=tmp_path).startswith(f"kvm-exporter {__version__} (revision ")
    assert run(installed, "dump", cwd=tmp_path).startswith("CPU 0:\n")
    shown = subprocess.run([installed, "show"], capture_output=True, text=True, check=False)
    assert shown.returncode in {0, 3}
    assert shown.stdout.startswith(("KVM at ", "no KVM"))
