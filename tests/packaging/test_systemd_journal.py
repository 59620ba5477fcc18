"""What the journal has of changes: fields to search by, and a text that explains them."""

import json
import shutil

import pytest

from kvm_exporter.report.changes import BOOT_DRIFT_ID, CHANGE_ID
from lab.guest import Guest
from lab.tree import REPOSITORY
from tests.support.packaging.debian import NAME
from tests.support.packaging.unit import PORT, Unit, journal, scrape
from tests.support.rooms.layouts import kvm

REFERENCE = f"/run/{NAME}/boot-reference.json"
GUEST = "/etc/kvm-exporter-guest"
MODULES = "/usr/lib/kvm-exporter-tests"

DRIFTING = f"""
[Service]
WorkingDirectory={MODULES}
ExecStart=
ExecStart=/usr/bin/python3 -m lab.daemon {GUEST} --max-age=0.000001 --port={PORT} --log-format=journal
"""
"""The daemon, in the unit and its sandbox, on a machine that is a folder."""

ALL, NO_STEAL_TIME = kvm(0x0100_7EFB), kvm(0x0100_7EDB)


def entry(service: Unit, message_id: str) -> dict[str, str | list[str]]:
    """The fields of the only message of a kind that the service has written since it was started."""
    [line] = service.log("--output=json", f"MESSAGE_ID={message_id}").splitlines()
    fields = json.loads(line)
    assert isinstance(fields, dict)
    return fields


def explained(service: Unit, message_id: str) -> str:
    """The same as ``journalctl -x`` shows it."""
    return service.log("--output=short", "--catalog", f"MESSAGE_ID={message_id}")


def test_what_changed_while_nobody_looked(service: Unit) -> None:
    """A reference that says otherwise than the machine: an entry has the difference in fields, the catalog in words."""
    service.stop()
    file = service.system.root / "run/private" / NAME / "boot-reference.json"
    kept = file.read_text()
    reference = json.loads(kept)
    now = reference["kvm"]
    if now is None:
        pytest.skip("this machine is no KVM guest: it has no features that could have been lost")
    # Bit 2 is that of an interface which left KVM in 2013 (kvm-cpuid.rst: KVM_FEATURE_MMU_OP).
    reference["kvm"] = now | {"eax": now["eax"] | 1 << 2}
    try:
        file.write_text(json.dumps(reference))
        service.start()
        found = entry(service, BOOT_DRIFT_ID)
        assert scrape(service.system).value("kvm_boot_feature_changed", feature="mmu_op") == -1
        shown = explained(service, BOOT_DRIFT_ID)
    finally:
        service.stop()
        file.write_text(kept)
    assert (found["KVM_FEATURE"], found["KVM_LOST"], found["KVM_GAINED"]) == ("mmu_op", "mmu_op", "")
    assert (found["PRIORITY"], found["SYSLOG_IDENTIFIER"]) == ("6", "kvm-exporter")
    assert found["_SYSTEMD_UNIT"] == service.name
    assert "Subject: The feature set is not that of this boot's first sample" in shown
    assert f"then:   {found['KVM_BEFORE']}" in shown
    assert f"now:    {found['KVM_AFTER']}" in shown
    assert "lost:   mmu_op" in shown


def test_a_change(service: Unit) -> None:
    """One CPU loses a feature while the exporter runs, as after a live migration."""
    system = service.system
    shutil.copytree(REPOSITORY / "lab", system.root / MODULES.lstrip("/") / "lab")
    guest = Guest(system.root / GUEST.lstrip("/"), {0: ALL, 1: ALL})
    with service.drop_in(DRIFTING):
        service.start()
        assert scrape(system).value("kvm_cpus_divergent") == 0
        guest.change({0: ALL, 1: NO_STEAL_TIME})
        assert scrape(system).value("kvm_cpus_divergent") == 1
        found, shown = entry(service, CHANGE_ID), explained(service, CHANGE_ID)
    assert (found["KVM_FEATURE"], found["KVM_LOST"], found["KVM_GAINED"]) == ("steal_time", "steal_time", "")
    assert (found["KVM_CPU"], found["PRIORITY"], found["_SYSTEMD_UNIT"]) == ("1", "3", service.name)
    assert str(found["MESSAGE"]).startswith("the feature set changed on CPU 1: lost steal_time")
    assert "Subject: The hypervisor offers this machine a different feature set" in shown
    assert "lost:   steal_time" in shown
    assert "What is to be expected at worst: corrupts." in shown
    assert "Usual causes are a live migration to another host" in shown
    # By a feature's name, as an administrator would look for it.
    assert journal(system, "KVM_FEATURE=steal_time").startswith("the feature set changed")
