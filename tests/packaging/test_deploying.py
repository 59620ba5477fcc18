"""docs/deploying.md: everything that is to be copied from it works, and everything that it names is there."""

import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kvm_exporter.app.cli import build_parser
from kvm_exporter.web.http import MAX_HEADER_BYTES
from kvm_exporter.web.server import MAX_CONNECTIONS, MAX_TLS_CONNECTIONS
from lab.exporter import exporter
from lab.secure import PASSWORD, make_server
from lab.servers import JOB
from lab.tree import DASHBOARDS, REPOSITORY
from tests.support.monitoring.prometheus import Scraped, prometheus
from tests.support.packaging.debian import NAME, DebianPackage, run
from tests.support.packaging.deploying import COMMANDS, FILES, SNIPPETS, TEXT, UNIT_FILES
from tests.support.packaging.readme import step
from tests.support.tools import EACH_RELEASE, monitoring_program, program

PAGES = tuple(REPOSITORY.joinpath("docs").glob("*.md"))

SERVICE = REPOSITORY / f"packaging/systemd/{NAME}.service"
SHARE = f"/usr/share/{NAME}"
UNITS = Path("/lib/systemd/system")
"""Where the machine has systemd's own."""

WEB_CONFIG = f"/etc/{NAME}/web.yml"
PROMETHEUS = "/etc/prometheus/prometheus.yml"
TARGETS = "/etc/prometheus/kvm/berlin.yml"
GRAFANA = "/etc/grafana/provisioning/dashboards/kvm.yaml"


def test_every_snippet_is_one_that_is_checked() -> None:
    """Commands, unit files, and the four files that the tests here know."""
    assert {snippet.language for snippet in SNIPPETS} == {"sh", "ini", "yaml"}
    assert set(FILES) - set(UNIT_FILES) == {WEB_CONFIG, PROMETHEUS, TARGETS, GRAFANA}
    assert all(snippet.path for snippet in SNIPPETS if snippet.language != "sh")
    assert TEXT.count("\n```") == 2 * len(SNIPPETS)


def test_systemd_accepts_the_units(debian_package: DebianPackage, tmp_path: Path) -> None:
    """In a system that has the package, and all drop-ins of the page, there is nothing that it could say."""
    root = tmp_path / "root"
    shutil.copytree(UNITS, root / UNITS.relative_to("/"), symlinks=True)
    shutil.copytree(debian_package.root, root, symlinks=True, dirs_exist_ok=True)
    (root / "bin").mkdir(parents=True, exist_ok=True)
    for needed in ("bin/sh", "usr/bin/systemd-sysusers"):
        (root / needed).touch(0o755)
    names = set()
    for path, text in UNIT_FILES.items():
        file = root / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        names.add(re.sub(r"\.d/.*", "", path.removeprefix("/etc/systemd/system/")))
    names |= {f"{NAME}-group.service", f"{NAME}-textfile.timer"}
    for unit in (f"{NAME}.service", f"{NAME}-socket.service"):
        shutil.copytree(
            root / SHARE.removeprefix("/") / "systemd", root / f"etc/systemd/system/{unit}.d", dirs_exist_ok=True
        )
        names.add(unit)
    assert names > {f"{NAME}.service", f"{NAME}.socket", f"{NAME}-socket.service"}
    said = run(program("systemd-analyze"), "verify", "--man=no", f"--root={root}", *sorted(names))
    assert said == ""


@pytest.fixture
def server(rules_package: DebianPackage, tmp_path: Path) -> Path:
    """The page's configuration of a Prometheus server, in a folder, with all files that it names."""
    text = FILES[PROMETHEUS].replace(SHARE, f"{rules_package.root}{SHARE}").replace("/etc/prometheus", str(tmp_path))
    make_server(tmp_path)
    (tmp_path / "ca.crt").rename(tmp_path / "kvm-ca.crt")
    (tmp_path / "kvm-password").write_text(PASSWORD)
    (tmp_path / "kvm").mkdir()
    (tmp_path / "kvm/berlin.yml").write_text(FILES[TARGETS])
    (tmp_path / "prometheus.yml").write_text(text)
    return tmp_path / "prometheus.yml"


def test_prometheus_accepts_the_configuration(server: Path) -> None:
    """With the rules of the package and the targets' file."""
    said = run(monitoring_program("bookworm", "promtool"), "check", "config", server)
    assert "2 rule files found" in said
    assert "WARNING" not in said


@pytest.mark.parametrize("what", ["openssl req", "chgrp -R"])
def test_the_drop_in_for_tls_has_the_commands_of_the_page(what: str) -> None:
    """For machines without the documentation, line for line; the exporter checks the files where it starts, too."""
    [commands] = [text for text in COMMANDS if what in text]
    lines = [f"#     {line}" for line in commands.splitlines(keepends=True) if not line.startswith("kvm-exporter ")]
    assert "".join(lines) in (REPOSITORY / "packaging/systemd/tls.conf").read_text(encoding="utf-8")


@pytest.mark.parametrize("release", EACH_RELEASE)
def test_prometheus_scrapes_with_tls_and_a_password(server: Path, release: str) -> None:
    """The page's web configuration and its job fit, and the instance has no port."""
    [job] = yaml.safe_load(server.read_text())["scrape_configs"]
    settings = {key: value for key, value in job.items() if key not in {"job_name", "scrape_interval"}}
    del settings["static_configs"], settings["file_sd_configs"]
    web_config = server.with_name("web.yml")
    web_config.write_text(FILES[WEB_CONFIG])
    with (
        exporter(f"--web.config.file={web_config}") as running,
        prometheus(release, server.parent, {JOB: Scraped(running.port, yaml.safe_dump(settings))}) as asked,
    ):
        target = asked.target()
    assert (target["health"], target["lastError"]) == ("up", "")
    assert target["labels"] == {"job": "kvm", "instance": "127.0.0.1"}


def test_grafana_is_given_the_folder_of_the_dashboards(rules_package: DebianPackage) -> None:
    """A provider of the provisioning's version 1, of files, in whose folder no other JSON is."""
    provisioning: dict[str, Any] = yaml.safe_load(FILES[GRAFANA])
    assert provisioning["apiVersion"] == 1
    [provider] = provisioning["providers"]
    assert provider["type"] == "file"
    folder = rules_package.root / provider["options"]["path"].removeprefix("/")
    assert {path.relative_to(folder) for path in folder.rglob("*.json")} == {
        path.relative_to(DASHBOARDS) for path in DASHBOARDS.glob("*.json")
    }


def test_the_commands_are_well_formed() -> None:
    """A shell can read them, and our own program knows its flags."""
    run("sh", "-n", "-c", "".join(COMMANDS))
    ours = [shlex.split(line)[1:] for line in "".join(COMMANDS).splitlines() if line.startswith("kvm-exporter ")]
    assert ours
    for words in ours:
        build_parser().parse_args(["serve", *words] if words[0].startswith("-") else words)


def test_the_readme_opens_kvm_as_the_page_does() -> None:
    """Its lines for hypervisor hosts are those of the page, which a booted system is given."""
    assert "".join(f"{line}\n" for line in step("**Hypervisor hosts:**").lines) in COMMANDS


def test_packages_are_named_as_they_are_built(debian_package: DebianPackage, rules_package: DebianPackage) -> None:
    """Both are to be installed from where make deb writes them."""
    assert set(re.findall(r"build/deb/(\S+)", TEXT)) == {debian_package.deb.name, rules_package.deb.name}


def test_numbers_are_those_that_hold() -> None:
    """What limits an attacker."""
    limits = dict(re.findall(r"^(\w+)=(\d+)M?$", SERVICE.read_text(encoding="utf-8"), re.MULTILINE))
    assert f"{MAX_CONNECTIONS} connections, {MAX_TLS_CONNECTIONS} with TLS" in TEXT
    assert f"{MAX_HEADER_BYTES // 1024} KiB of headers" in TEXT
    assert f"up to {limits['MemoryMax']} MB and {limits['TasksMax']} threads" in TEXT


def test_a_site_writes_rules_of_its_own(tmp_path: Path) -> None:
    """With the page's command; and the page's flags exist."""
    [command] = [text for text in COMMANDS if text.startswith("kvm-exporter-rules ")]
    program = DASHBOARDS / "generate.py"
    run(sys.executable, program, *shlex.split(command.replace("/etc/prometheus/kvm-rules", str(tmp_path)))[1:])
    assert "sum by (job, cluster) (kvm_present)" in (tmp_path / "machine-rules.yaml").read_text(encoding="utf-8")
    known = run(sys.executable, program, "--help")
    named = set(re.findall(r"`(--(?:cohort|dashboards|exporters|operator|output|runbooks))\b", TEXT))
    assert named == {"--dashboards", "--exporters", "--operator", "--runbooks"}
    assert all(flag in known for flag in named)


NODE_EXPORTERS = {
    "--collector.disable-defaults",
    "--collector.cpu",
    "--collector.cpu.info",
    "--collector.cpu.info.flags-include",
    "--collector.cpu.info.bugs-include",
}
"""Flags of the program that ours is measured beside."""


def test_flags_exist() -> None:
    """Those that the text names: of the exporter, all that have a dot."""
    known = set(re.findall(r"--[a-z.-]+[a-z]", run(sys.executable, "-m", "kvm_exporter", "serve", "--help")))
    for page in PAGES:
        named = set(re.findall(r"--(?:no-)?[a-z]+\.[a-z.-]+[a-z]", page.read_text(encoding="utf-8")))
        assert named - known - NODE_EXPORTERS == set(), page.name


def test_units_and_files_exist(debian_package: DebianPackage, rules_package: DebianPackage) -> None:
    """What systemctl and journalctl are told to look at, and the files that the packages are said to have."""
    own = {Path(path).name for path in UNIT_FILES}
    units = {path.name for path in (REPOSITORY / "packaging/systemd").iterdir()} | own
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"(?:systemctl [\w -]*?|journalctl -u |security )([\w-]*kvm[\w-]*(?:\.\w+)?)", text)
        assert {name if "." in name else f"{name}.service" for name in named} - units == set(), page.name
    for path in set(re.findall(r"/usr/(?:share|lib)/[\w./-]+\w", TEXT)) - {"/usr/lib64"}:
        assert any((package.root / path[1:]).exists() for package in (debian_package, rules_package)), path
