"""``make release``: it refuses what would be mislabelled, and the same commit gives the same files twice."""

import os
import re
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

from kvm_exporter import __version__
from lab.tree import REPOSITORY
from tests.support.packaging.debian import NAME, run
from tests.support.tools import program
from tests.support.tree import tracked

TAG = f"v{__version__}"
WORKFLOW = REPOSITORY / ".github/workflows/release.yml"
COMPARED = ("scripts/release-version", "kvm_exporter/__init__.py", "packaging/debian/changelog")
"""What the check of the version reads, and the check."""

FOREIGN = "systemd_python-235-cp399-cp399-manylinux_2_39_x86_64.whl"
"""A wheel that another system has built, for a Python that is not here."""

GIT = ("git", "-c", "user.name=tests", "-c", "user.email=tests@kvm-exporter.invalid")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small repository with a single commit."""
    program("git")
    for name in COMPARED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, tmp_path / name)
    run("git", "init", "--quiet", tmp_path)
    run(*GIT, "-C", tmp_path, "add", ".")
    run(*GIT, "-C", tmp_path, "commit", "--quiet", "--message=release")
    return tmp_path


def test_the_address_is_the_same_everywhere() -> None:
    """SECURITY.md sends reports to the author in pyproject.toml; so do Debian's files, in their newest entry."""
    [author] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["authors"]
    files = [name for name in tracked() if name.startswith("packaging/debian/")]
    texts = {name: (REPOSITORY / name).read_text(encoding="utf-8") for name in files}
    found = {name: re.search(r"\b[\w. -]+ <\S+@\S+>", text) for name, text in texts.items()}
    named = {name: first[0] for name, first in found.items() if first is not None}
    assert named.keys() == {f"packaging/debian/{name}" for name in ("changelog", "control", f"{NAME}.NEWS")}
    assert {*named.values()} == {f"{author['name']} <{author['email']}>"}


def version_of(checkout: Path) -> tuple[int, str, str]:
    """The exit code of scripts/release-version in a checkout, what it prints, and the message."""
    ended = subprocess.run([checkout / COMPARED[0]], capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout, ended.stderr


def test_the_version_of_a_release(checkout: Path) -> None:
    """With the right tag, and without one, as before a release; other tags do not matter."""
    assert version_of(checkout) == (0, f"{__version__}\n", "")
    for tag in (TAG, "nightly"):
        run("git", "-C", checkout, "tag", tag)
        assert version_of(checkout) == (0, f"{__version__}\n", "")


def another_tag(checkout: Path) -> None:
    """The commit is tagged with a version that it does not have."""
    run("git", "-C", checkout, "tag", "v99.1")


def another_changelog(checkout: Path) -> None:
    """Debian's changelog is that of another version."""
    path = checkout / "packaging/debian/changelog"
    path.write_text(path.read_text(encoding="utf-8").replace(f"({__version__}-", "(99.1-"), encoding="utf-8")


def a_change(checkout: Path) -> None:
    """A file is not committed."""
    (checkout / "forgotten").touch()


def no_git(checkout: Path) -> None:
    """The files of an sdist."""
    shutil.rmtree(checkout / ".git")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_tag, f"the commit has the tag v99.1, and version {__version__} in kvm_exporter/__init__.py; tag "),
        (another_changelog, "packaging/debian/changelog has version 99.1, and kvm_exporter/__init__.py "),
        (a_change, "there are changes that are not committed; commit or stash them:\n?? forgotten\n"),
        (no_git, "this is no git checkout, from which releases are built; clone the repository\n"),
    ],
)
def test_what_would_be_mislabelled(checkout: Path, change: Callable[[Path], None], message: str) -> None:
    """It is refused before anything is built, with what does not fit and what to do."""
    change(checkout)
    code, printed, said = version_of(checkout)
    assert (code, printed) == (1, "")
    assert said.startswith(f"kvm-exporter: {message}")


def test_what_ci_runs_for_a_tag() -> None:
    """It runs make release, uses actions by commit only, and has no right to write while it builds."""
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # "on" is a word for true in YAML 1.1
    always = "SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) CFLAGS=-g0 PIP_NO_CACHE_DIR=1"
    assert {"run": f"{always} make dist"} in jobs["wheels"]["steps"]
    assert {"run": "make release WHEELS=build/wheels"} in jobs["build"]["steps"]
    actions = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert [action for action in actions if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action)] == []
    assert workflow["permissions"] == {"contents": "read"}
    assert {name: job.get("permissions") for name, job in jobs.items()} == {
        "wheels": None,
        "build": None,
        "publish": {"contents": "write"},
    }


def make_release(folder: Path, *variables: str) -> Mapping[str, bytes]:
    """The files that ``make release`` leaves in a new clone, with the tag of its version, by their names."""
    run("git", "clone", "--quiet", REPOSITORY, folder)
    run("git", "-C", folder, "tag", "--force", TAG)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTHON"))}
    command = ["make", f"--directory={folder}", *variables, "release"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return {path.name: path.read_bytes() for path in (folder / "build/release").iterdir()}


@pytest.mark.slow
def test_the_same_commit_gives_the_same_files(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Twice, in new clones: all that is promised, each named by its version, byte for byte, and the checksums fit."""
    for needed in ("mmdebstrap", "umoci", "dpkg-buildpackage"):
        program(needed)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in (FOREIGN, "kvm_exporter-0-cp311-abi3-manylinux_2_39_x86_64.whl"):
        (wheels / name).write_text("built elsewhere")
    first = make_release(tmp_path / "first", f"WHEELS={wheels}")
    names = "\n".join(sorted(first))
    version = re.escape(__version__)
    for pattern in (
        rf"kvm_exporter-{version}\.tar\.gz",
        rf"kvm_exporter-{version}-cp311-abi3-manylinux\S+\.whl",
        rf"kvm-exporter-wheelhouse-{version}-{os.uname().machine}\.tar",
        rf"{NAME}_{version}-[1-9]\d*_\w+\.deb",
        rf"{NAME}-rules_{version}-[1-9]\d*_all\.deb",
        rf"{NAME}-{version}\.tar",
        r"SHA256SUMS",
    ):
        assert re.search(f"^{pattern}$", names, re.MULTILINE), names
    others = [name for name in first if not name.endswith((".deb", ".whl", ".tar", ".tar.gz")) and name != "SHA256SUMS"]
    assert others == []
    checked = run("sh", "-c", "cd $0 && sha256sum --check --strict SHA256SUMS", tmp_path / "first/build/release")
    assert checked.count(": OK\n") == len(first) - 1
    figure(f"{sum(map(len, first.values())) / 1e6:.0f} MB: {', '.join(sorted(first))}")

    [wheelhouse] = (path for path in (tmp_path / "first/build/release").iterdir() if "-wheelhouse-" in path.name)
    with tarfile.open(wheelhouse) as archive:
        packed = [Path(name).name for name in archive.getnames()]
    assert packed.count(FOREIGN) == 1
    assert len([name for name in packed if name.startswith("kvm_exporter-")]) == 1

    second = make_release(tmp_path / "second", f"VENV={tmp_path / 'first/.venv'}", f"WHEELS={wheels}")
    assert [name for name in {*first, *second} if first.get(name) != second.get(name)] == []
