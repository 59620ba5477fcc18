"""The rules' package in a booted Debian: without an exporter, and where an older exporter's package has its files."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.tree import DASHBOARDS, RULE_FILES
from tests.support.packaging.container import EACH_SUITE, CommandError, Container
from tests.support.packaging.debian import NAME, RULES, DebianPackage, run
from tests.support.packaging.installed import PACKAGES, apt, install, system_with
from tests.support.tools import monitoring_program

COMMAND = "kvm-exporter-rules"


@pytest.fixture(scope="module", params=EACH_SUITE)
def system(request: pytest.FixtureRequest, debian_package: DebianPackage) -> Iterator[Container]:
    """A booted Debian that has neither package, and both to install."""
    with system_with(request.param, debian_package.deb.parent) as booted:
        yield booted


def files(system: Container) -> list[str]:
    """All files of the system that have to do with KVM."""
    return sorted(system.run("find", "/etc", "/usr", "/var/lib/systemd", "-path", "*kvm*").splitlines())


def test_it_works_without_an_exporter(system: Container, rules_package: DebianPackage, tmp_path: Path) -> None:
    """Installed alone, the command writes the rules and alerts of the package, and others, which Prometheus accepts.

    Purged, nothing is left, and nothing of what Python compiled.
    """
    before = files(system)
    install(system, Path(rules_package.deb.name))
    with pytest.raises(CommandError, match="No module named 'kvm_exporter'"):
        system.run("python3", "-c", "import kvm_exporter")

    assert system.run(COMMAND, "--help").startswith(f"usage: {COMMAND} ")
    system.run(COMMAND, "--output=/root/rules")
    written = system.root / "root/rules"
    for path in (path for path in DASHBOARDS.rglob("*.yaml") if path.name != "alertmanager.example.yaml"):
        assert (written / path.relative_to(DASHBOARDS)).read_bytes() == path.read_bytes(), path

    system.run(COMMAND, "--output=/root/operator", "--operator", "--cohort=job,cluster")
    for path in RULE_FILES:
        resource = yaml.safe_load((system.root / "root/operator" / path.name).read_text())
        assert resource["kind"] == "PrometheusRule"
        (tmp_path / path.name).write_text(yaml.safe_dump(resource["spec"]))
        run(monitoring_program("bookworm", "promtool"), "check", "rules", tmp_path / path.name, written / path.name)

    with pytest.raises(CommandError, match="grafana-foundation-sdk is missing; install it, or omit the flag"):
        system.run(COMMAND, "--output=/root/all", "--dashboards")

    apt(system, "purge", RULES)
    assert files(system) == before


def test_files_move_from_an_older_exporters_package(
    system: Container, debian_package: DebianPackage, rules_package: DebianPackage, tmp_path: Path
) -> None:
    """One step of apt upgrades it and installs the rules: no file is in both, and every file is there."""
    older = tmp_path / "older"
    run("dpkg-deb", "--raw-extract", debian_package.deb, older)
    shutil.copytree(rules_package.root / f"usr/share/{NAME}", older / f"usr/share/{NAME}", dirs_exist_ok=True)
    control = older / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*", "Version: 0.1.0-1", control.read_text(), flags=re.MULTILINE))
    run("dpkg-deb", "--build", "--root-owner-group", older, debian_package.deb.parent / "before-the-split.deb")
    install(system, Path("before-the-split.deb"))
    rules = f"/usr/share/{NAME}/{RULE_FILES[0].name}"
    assert system.run("dpkg-query", "--search", rules) == f"{NAME}: {rules}\n"

    apt(system, "install", *(f"{PACKAGES}/{package.deb.name}" for package in (debian_package, rules_package)))
    assert system.run("dpkg-query", "--search", rules) == f"{RULES}: {rules}\n"
    assert system.run("dpkg", "--verify", NAME, RULES) == ""
