"""The program that writes the rules: where it runs, what its flags change, and what it says of those that are wrong."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.tree import DASHBOARDS, RULE_FILES
from tests.support.tools import monitoring_program

PROGRAM = DASHBOARDS / "generate.py"

NAMES = tuple(path.name for path in RULE_FILES)

NO_SDK = "raise ModuleNotFoundError('not installed', name='grafana_foundation_sdk')\n"
"""A module that stands before Grafana's SDK, as if that were not installed."""

DURATION = r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$"
"""The pattern of durations in the operator's definition of PrometheusRule."""


def generated(folder: Path, *flags: str) -> Path:
    """The folder, with what the program writes."""
    subprocess.run([sys.executable, PROGRAM, f"--output={folder}", *flags], check=True)
    return folder


def refusal(*words: str | Path) -> str:
    """The last line that a program says before it ends with exit code 2."""
    ended = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    return ended.stderr.splitlines()[-1].removeprefix("generate.py: error: ")


def content(path: Path) -> dict[str, Any]:
    """A YAML file."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def check_rules(*files: Path) -> None:
    """Prometheus' own check, which knows PromQL and the templates."""
    promtool = monitoring_program("bookworm", "promtool")
    ended = subprocess.run([promtool, "check", "rules", *files], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_all_but_the_dashboards_are_written_without_the_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same files, byte for byte; and who asks for dashboards is told what is missing, and gets none."""
    (tmp_path / "grafana_foundation_sdk.py").write_text(NO_SDK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    generated(tmp_path / "rules")
    written = {path.relative_to(tmp_path / "rules") for path in (tmp_path / "rules").rglob("*.*")}
    assert {*map(Path, NAMES)} < written
    assert not [path for path in written if path.suffix == ".json"]
    for path in written:
        assert (tmp_path / "rules" / path).read_bytes() == (DASHBOARDS / path).read_bytes(), path
    assert refusal(PROGRAM, f"--output={tmp_path / 'all'}", "--dashboards") == (
        "--dashboards: the Python package grafana-foundation-sdk is missing; install it, or omit the flag"
    )
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ('--exporters=job=~"kvm|guests", team="infra"', ['up{job=~"kvm|guests", team="infra"} == 0']),
        ("--cohort=job,zone", ["sum by (job, zone) (kvm_present)", "/ on (job, zone) group_left ()"]),
        ("--runbooks=https://wiki.example/kvm", ["runbook_url: https://wiki.example/kvm#kvmfeaturelost\n"]),
        ("--down-share=0.07", ["<= 0.93\n"]),
        ("--down-fewest=5", [">= 5\n"]),
        ("--rare-share=0.005", ["share < 0.005", "share >= 0.005", "Fewer than 0.5% of the machines"]),
        ("--stale-ages=4", ["> 4 * (kvm_exporter_sample_max_age_seconds > 0) + 60\n"]),
        ("--stale-seconds=90", ["> 3 * (kvm_exporter_sample_max_age_seconds > 0) + 90\n"]),
        ("--drift-kept=1h30m", ["keep_firing_for: 1h30m\n", "max_over_time(kvm_exporter_sample_success[1h30m])"]),
        ("--certificate-days=30", ["< 30 * 24 * 60 * 60 + time()"]),
    ],
)
def test_each_flag_changes_the_rules(flag: str, expected: list[str], tmp_path: Path) -> None:
    """To rules that Prometheus accepts, in which nothing of the default is left."""
    files = [generated(tmp_path, flag) / name for name in NAMES]
    check_rules(*files)
    before, after = ("".join((folder / name).read_text() for name in NAMES) for folder in (DASHBOARDS, tmp_path))
    assert [text for text in expected if text not in after or text in before] == []


def test_the_operator_gets_resources(tmp_path: Path) -> None:
    """Of its kind, with no key that its definition lacks, whose rules are those of the files and pass promtool."""
    generated(tmp_path, "--operator")
    for name in NAMES:
        resource = content(tmp_path / name)
        assert resource.keys() == {"apiVersion", "kind", "metadata", "spec"}
        assert (resource["apiVersion"], resource["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
        assert resource["metadata"] == {"name": f"kvm-exporter-{name.removesuffix('.yaml')}"}
        assert resource["spec"] == content(DASHBOARDS / name)
        groups = resource["spec"]["groups"]
        assert len({group["name"] for group in groups}) == len(groups)
        for rule in (rule for group in groups for rule in group["rules"]):
            assert rule.keys() <= {"record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
            assert all(re.fullmatch(DURATION, rule[key]) for key in rule.keys() & {"for", "keep_firing_for"})
            texts = {**rule.get("labels", {}), **rule.get("annotations", {})}
            assert all(isinstance(text, str) for text in texts.values())
        alone = tmp_path / f"spec-{name}"
        alone.write_text(yaml.safe_dump(resource["spec"]))
        check_rules(alone)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--cohort=zone", "'zone' lacks the label job; use job,zone"),
        ("--cohort=job, zone", "' zone' is not a label; separate labels by commas, as in job,cluster"),
        (
            "--cohort=job,instance",
            "'instance' cannot define a cohort; use labels that the targets of whole groups share",
        ),
        (
            "--exporters=job=kvm",
            "'job=kvm' does not select series; use label matchers, quoted for the shell: 'job=\"kvm\"'",
        ),
        ("--runbooks=wiki", "'wiki' is not the URL of a page; use one such as https://wiki.example.org/runbooks"),
        ("--rare-share=5%", "'5%' is not a share; use a number above 0 and up to 1, such as 0.05"),
        ("--rare-share=nan", "'nan' is not a share; use a number above 0 and up to 1, such as 0.05"),
        ("--down-fewest=0", "'0' is not a number that fits; use a whole number from 1"),
        ("--drift-kept=15", "'15' is not a duration above 0 for Prometheus; use one such as 15m or 1h30m"),
        ("--drift-kept=0s", "'0s' is not a duration above 0 for Prometheus; use one such as 15m or 1h30m"),
        ("--drift-kept=", "'' is not a duration above 0 for Prometheus; use one such as 15m or 1h30m"),
    ],
)
def test_a_wrong_value_is_refused(flag: str, message: str, tmp_path: Path) -> None:
    """By the name of the flag, with what is wrong and what to do; nothing is written."""
    folder = tmp_path / "rules"
    assert refusal(PROGRAM, f"--output={folder}", flag) == f"argument {flag.partition('=')[0]}: {message}"
    assert not folder.exists()


def test_without_the_runbooks_it_asks_where_they_are(tmp_path: Path) -> None:
    """Or for the file that the alerts quote."""
    program = tmp_path / "program"
    shutil.copytree(DASHBOARDS, program)
    words = (program / "generate.py", f"--output={tmp_path / 'rules'}")
    assert refusal(*words) == (
        f"--runbooks: {program / 'runbooks.md'} is missing; put docs/runbooks.md there, or use --runbooks"
    )
    subprocess.run([sys.executable, *words, "--runbooks=https://wiki.example/kvm"], check=True)


def test_it_says_where_it_cannot_write(tmp_path: Path) -> None:
    """And writes nowhere unless it is told where."""
    file = tmp_path / "file"
    file.touch()
    assert refusal(PROGRAM, f"--output={file}") == f"--output: cannot write {file}: File exists; use another folder"
    assert refusal(PROGRAM) == "the following arguments are required: --output"
