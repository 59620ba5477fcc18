"""The journal's catalog, which explains the messages, as journalctl itself reads it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kvm_exporter.collector.observer import Observation
from kvm_exporter.kvm.features import feature_named
from kvm_exporter.report.changes import BOOT_DRIFT_ID, CHANGE_ID, USED_ID, announce
from lab.readers import sample_of
from lab.tree import UNITS
from tests.report.test_changes import ALL, LESS, USED, change, fields, start
from tests.support.tools import program

CATALOG = UNITS / "prometheus-kvm-exporter.catalog"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with our catalog alone, which journalctl has accepted."""
    folder = tmp_path / "usr/lib/systemd/catalog"
    folder.mkdir(parents=True)
    shutil.copy(CATALOG, folder)
    assert journalctl(tmp_path, "--update-catalog") == ""
    return tmp_path


def journalctl(root: Path, *arguments: str) -> str:
    """All that it says."""
    command = [program("journalctl"), f"--root={root}", "--no-pager", *arguments]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout


def test_every_message_is_in_the_catalog(root: Path) -> None:
    """As journalctl itself reads it: all of ours, and nothing else."""
    assert dict(line.split(" ", 1) for line in journalctl(root, "--list-catalog").splitlines()) == {
        CHANGE_ID: "kvm-exporter: The hypervisor offers this machine a different feature set",
        BOOT_DRIFT_ID: "kvm-exporter: The feature set is not that of this boot's first sample",
        USED_ID: "kvm-exporter: The kernel uses a feature that is not offered",
    }


GROUNDS = {"KVM_EVIDENCE", "KVM_SINCE"}
CHANGED = {"KVM_BEFORE", "KVM_AFTER", "KVM_LOST", "KVM_GAINED", "KVM_SEVERITY", "KVM_ACTION"} | GROUNDS


@pytest.mark.parametrize(
    ("message_id", "expected"), [(CHANGE_ID, CHANGED), (BOOT_DRIFT_ID, CHANGED), (USED_ID, GROUNDS)]
)
def test_the_catalog_shows_only_fields_that_there_are(
    root: Path, caplog: pytest.LogCaptureFixture, message_id: str, expected: set[str]
) -> None:
    """What changed, how bad it is and the evidence are in the text; a name without a field would stand there bare."""
    change(sample_of({0: ALL}), sample_of({0: LESS}))
    start(ALL, sample_of({0: LESS}))
    announce(None, Observation(sample_of({0: LESS}), in_use={feature_named("steal_time"): USED}))
    [found] = [record for record in caplog.records if fields(record)["message_id"] == message_id]
    text = journalctl(root, "--dump-catalog", message_id)
    shown = set(re.findall("@([A-Z_]+)@", text))
    assert shown == expected
    assert shown <= {name.upper() for name in fields(found)}
    assert max(map(len, text.splitlines())) <= 80
