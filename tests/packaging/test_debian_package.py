"""The exporter's Debian package as it is built: what is in it, what it needs, and what Debian's own checks say.

That it can be installed and what it does then is shown in a booted system.
"""

import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from kvm_exporter import __version__
from lab.tree import REPOSITORY, UNITS
from tests.support.packaging.debian import NAME, RULES, DebianPackage, build, run, unpacked
from tests.support.tools import program
from tests.support.tree import tracked

CHANGELOG = REPOSITORY / "packaging/debian/changelog"


def test_the_changelog_has_the_version() -> None:
    """The version is said in one place; Debian's changelog has to follow it."""
    version = run("dpkg-parsechangelog", "--file", CHANGELOG, "--show-field", "Version").strip()
    assert re.fullmatch(re.escape(__version__) + r"-[1-9][0-9]*", version)


def test_what_make_deb_would_install(tmp_path: Path) -> None:
    """On a system without dpkg-dev: all build dependencies, and build-essential, which every Debian build needs."""
    for name in ("sh", "dirname", "sed", "tr"):
        (tmp_path / name).symlink_to(program(name))
    ended = subprocess.run(
        [REPOSITORY / "scripts/system-packages", "nowhere/python3", "deb"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    control = (REPOSITORY / "packaging/debian/control").read_text(encoding="utf-8")
    built_with = re.findall(r"^ ([a-z0-9-]+)", control.partition("Standards-Version")[0], re.MULTILINE)
    assert ended.returncode == 1
    assert {*built_with, "build-essential"} <= set(ended.stderr.split())


def test_it_depends_on_debians_own_libraries(debian_package: DebianPackage) -> None:
    """What pyproject.toml asks for, by Debian's names, and of cffi only what a built extension needs."""
    assert debian_package.field("Package") == NAME
    alternatives = debian_package.field("Depends").split(", ")
    assert {dependency.partition(" ")[0] for dependency in alternatives} == {
        "libc6",
        "python3",
        "python3-bcrypt",
        "python3-cffi-backend-api-max",
        "python3-cffi-backend-api-min",
        "python3-h11",
        "python3-prometheus-client",
        "python3-systemd",
        "python3-yaml",
        "python3:any",
    }
    assert "python3 (>= 3.11)" in alternatives
    assert "python3-h11 (>= 0.14.0-1.1~deb12u1)" in alternatives
    # An extension of the stable ABI is for newer ones too.
    assert "<< 3." not in debian_package.field("Depends")


def test_what_is_in_it(debian_package: DebianPackage) -> None:
    """Everything that is installed has its place, and nothing else is in there."""
    root = debian_package.root
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() or path.is_symlink()}
    modules = {
        f"usr/lib/python3/dist-packages/{name}"
        for name in {*tracked(), "kvm_exporter/_revision.py"}
        if name.startswith("kvm_exporter/") and not name.endswith((".c", ".h", "/unit_files"))
    }
    units = {path.name for path in (REPOSITORY / "packaging/systemd").iterdir()}
    assert modules - files == set()
    assert {name for name in files - modules if not re.search(r"/kvm_exporter-[^/]*\.dist-info/", name)} == {
        "usr/bin/kvm-exporter",
        f"usr/bin/{NAME}",
        "usr/lib/python3/dist-packages/kvm_exporter/_cpuid.abi3.so",
        *(f"usr/lib/python3/dist-packages/kvm_exporter/app/unit_files/{name}" for name in units),
        *(f"usr/lib/systemd/system/{name}" for name in units if name.endswith((".service", ".socket", ".timer"))),
        f"usr/lib/systemd/catalog/{NAME}.catalog",
        f"etc/default/{NAME}",
        "usr/share/bash-completion/completions/kvm-exporter",
        f"usr/share/bash-completion/completions/{NAME}",
        "usr/share/zsh/vendor-completions/_kvm-exporter",
        "usr/share/man/man1/kvm-exporter.1.gz",
        f"usr/share/man/man1/{NAME}.1.gz",
        *(f"usr/share/{NAME}/systemd/{name}" for name in units if name.endswith(".conf")),
        f"usr/share/doc/{NAME}/NEWS.Debian.gz",
        f"usr/share/doc/{NAME}/changelog.Debian.gz",
        f"usr/share/doc/{NAME}/changelog.gz",
        f"usr/share/doc/{NAME}/copyright",
        f"usr/share/doc/{NAME}/dashboards",
        *(
            f"usr/share/doc/{NAME}/{name}"
            for name in tracked()
            if name.startswith("docs/") or (name.endswith(".md") and "/" not in name)
        ),
        f"usr/share/lintian/overrides/{NAME}",
    }


@pytest.mark.parametrize("name", [NAME, RULES])
def test_no_link_in_the_documents_is_dead(
    debian_package: DebianPackage, rules_package: DebianPackage, name: str
) -> None:
    """Relative to where the package installs them: to another document, a picture, or the dashboards."""
    share = {NAME: debian_package, RULES: rules_package}[name].root / "usr/share"
    pages = [page for folder in (share / "doc" / name, share / NAME) for page in folder.rglob("*.md")]
    links = {
        (page.name, link): page.parent / link
        for page in pages
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
        if "://" not in link
    }
    assert {"README.md", "runbooks.md", "metrics.md"} <= {page for page, _ in links}
    assert [found for found, path in links.items() if not path.exists()] == []


def test_only_the_plain_service_is_started(debian_package: DebianPackage, tmp_path: Path) -> None:
    """The variant on a socket and the timer are for who chooses them; all are stopped when the package goes."""
    run("dpkg-deb", "--control", debian_package.deb, tmp_path)
    installs, removes = ((tmp_path / name).read_text(encoding="utf-8") for name in ("postinst", "prerm"))
    assert re.findall(r"deb-systemd-invoke (\S+) (.*?) >", installs) == [
        ("$_dh_action", "'prometheus-kvm-exporter.service'"),
        ("try-restart", f"'{NAME}-socket.service' '{NAME}-textfile.timer' '{NAME}.socket'"),
    ]
    assert "deb-systemd-helper --quiet was-enabled 'prometheus-kvm-exporter.service'" in installs
    assert re.search(r"if deb-systemd-helper debian-installed 'prometheus-kvm-exporter.socket'; then", installs)
    stopped = " ".join(re.findall(r"deb-systemd-invoke stop (.*?) >", removes)).replace("'", "").split()
    units = {path.name for path in UNITS.iterdir() if path.suffix in {".service", ".socket", ".timer"}}
    # It is over once the group is there.
    assert set(stopped) == units - {f"{NAME}-group.service"}
    assert (tmp_path / "conffiles").read_text(encoding="utf-8") == f"/etc/default/{NAME}\n"


def test_the_packages_name_is_a_command(debian_package: DebianPackage) -> None:
    """As Debian's exporters have it: a program and a man page, which are those of kvm-exporter."""
    share = debian_package.root / "usr/share"
    for link, target in (
        (share / f"man/man1/{NAME}.1.gz", "kvm-exporter.1.gz"),
        (share / f"bash-completion/completions/{NAME}", "kvm-exporter"),
        (debian_package.root / f"usr/bin/{NAME}", "kvm-exporter"),
    ):
        assert str(link.readlink()) == target


def test_what_it_installs_runs_with_debians_python(debian_package: DebianPackage) -> None:
    """The program says which commit it was built from, and decodes a dump."""
    installed = debian_package.root / "usr/bin/kvm-exporter"
    modules = str(debian_package.root / "usr/lib/python3/dist-packages")
    commit = run("git", "-C", REPOSITORY, "rev-parse", "--short=12", "HEAD").strip()
    said = run(installed, "--version", PYTHONPATH=modules, PYTHONDONTWRITEBYTECODE="1")
    assert said == f"kvm-exporter {__version__} (revision {commit})\n"
    dump = REPOSITORY / "lab/dumps/qemu-default-invtsc.txt"
    decoded = run(installed, "decode", dump, PYTHONPATH=modules, PYTHONDONTWRITEBYTECODE="1")
    assert decoded == (REPOSITORY / "tests/golden/qemu-default-invtsc.txt").read_text(encoding="utf-8")
    recorded = run(installed, "dump", PYTHONPATH=modules, PYTHONDONTWRITEBYTECODE="1")
    assert recorded.startswith("CPU 0:\n")


def test_lintian_has_nothing_to_say(debian_package: DebianPackage) -> None:
    """Neither errors nor warnings nor hints; what is overridden has its reason beside it."""
    said = run(program("lintian"), "--display-info", "--tag-display-limit=0", "--fail-on=none", debian_package.changes)
    assert re.findall("^[EWI]: .*", said, re.MULTILINE) == []


@pytest.mark.slow
def test_the_sdist_alone_builds_the_same_packages(
    debian_package: DebianPackage, rules_package: DebianPackage, tmp_path: Path
) -> None:
    """Without git, in another folder, later: the same bytes. So the sdist has everything, and nothing else gets in."""
    with tarfile.open(debian_package.source) as sdist:
        sdist.extractall(tmp_path, filter="data")
    [tree] = tmp_path.iterdir()
    when = run("git", "-C", REPOSITORY, "log", "-1", "--format=%ct").strip()
    again = build(tmp_path / "again", tree=tree, SOURCE_DATE_EPOCH=when)
    for first, second in ((debian_package, again), (rules_package, unpacked(tmp_path / "again", RULES))):
        assert second.deb.name == first.deb.name
        assert second.deb.read_bytes() == first.deb.read_bytes()
