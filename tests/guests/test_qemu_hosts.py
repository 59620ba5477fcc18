"""What a hypervisor's KVM can offer, beside what a guest of it is offered: both dumps are of real kernels."""

import json
from pathlib import Path
from typing import Any

import pytest

from kvm_exporter.app.cli import main
from tests.support.guests.twolevel import Hypervisor, Laboratory

MASK = "host,-kvm-steal-time,+kvm-hint-dedicated,hv-relaxed,hv-vapic,hv-time"
"""A bit of KVM less than the host can offer, the VMM's own hint, and KVM's leaves at another base."""

UNPACK = (
    "mkdir /exporter && cd /exporter && (cpio -id; cpio -id) </guest.cpio && mkdir -p dev && mount -t devtmpfs none dev"
)
"""The guest's files are two archives, one after the other: its system, and the exporter."""


def dumps(laboratory: Laboratory) -> tuple[str, str]:
    """Return the dump of a guest, and that of its host by the same exporter."""

    def experiment(hypervisor: Hypervisor) -> tuple[str, str]:
        with hypervisor.guest(MASK) as guest:
            of_guest = guest.shell.run("kvm-exporter dump")
        hypervisor.shell.run(f"test -e /exporter || ({UNPACK})")
        return of_guest, hypervisor.shell.run("chroot /exporter kvm-exporter dump --host")

    return laboratory.attempt(experiment)


def test_a_guest_and_its_host(laboratory: Laboratory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The host could take its guest, although base and hint are its VMM's.

    The other way, a guest that was offered everything loses what the mask took, and what QEMU itself leaves out.
    """
    paths = [tmp_path / "guest.txt", tmp_path / "host.txt"]
    for path, text in zip(paths, dumps(laboratory), strict=True):
        path.write_text(text)

    def compared(source: Path, target: Path) -> tuple[int, dict[str, Any]]:
        code = main(["compare", "--strict", "--format=json", str(source), str(target)])
        return code, json.loads(capsys.readouterr().out)

    code, answer = compared(*paths)
    assert (code, answer["reasons"], answer["host_dumps"]) == (0, [], ["to"])
    assert "EAX 0x01007adb, EDX 0x00000001" in answer["from"]
    assert "EAX 0x01007efb, EDX 0x00000000" in answer["to"]
    assert {"hints_realtime", "base and signatures", "tsc frequency"} <= set(answer["not_compared"])
    code, answer = compared(*reversed(paths))
    assert (code, [reason["feature"] for reason in answer["reasons"]]) == (1, ["steal_time", "async_pf_vmexit"])
