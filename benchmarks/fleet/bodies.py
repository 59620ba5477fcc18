"""The bodies that the exporter serves on machines of several kinds; each exporter runs once for a short time."""

import re
import urllib.request
from pathlib import Path

from kvm_exporter.cpuid.registers import HYPERVISOR_BIT, Registers
from kvm_exporter.kvm.leaves import KVM_SIGNATURE
from lab.guest import Cpus, Guest, port_of
from lab.process import Process

BASE = 0x4000_0000

_SAMPLE = re.compile(r"^(?P<name>[a-z_:]+)(?:\{(?P<labels>[^}]*)\})? (?P<value>.+)$", re.MULTILINE)


def cpus(*words: int) -> Cpus:
    """Return the leaves of CPUs on KVM, one for each word of EAX of the feature leaf."""
    signature = [int.from_bytes(KVM_SIGNATURE[start : start + 4], "little") for start in (0, 4, 8)]
    return {
        cpu: {
            (0x1, 0): Registers(0, 0, HYPERVISOR_BIT, 0),
            (BASE, 0): Registers(BASE + 1, *signature),
            (BASE + 1, 0): Registers(eax, 0, 0, 0),
        }
        for cpu, eax in enumerate(words)
    }


def body(folder: Path, boot: Cpus, now: Cpus, baseline: str | None = None) -> str:
    """Return the body, in text 0.0.4, of an exporter whose machine has the CPUs ``boot`` at boot and then ``now``."""
    guest = Guest(folder, boot)
    guest.boot()
    flags = []
    if baseline is not None:
        (folder / "baseline.yaml").write_text(baseline)
        flags = [f"--baseline={folder / 'baseline.yaml'}"]
    exporter = Process(guest.exporter(*flags), guest.environment)
    try:
        url = f"http://127.0.0.1:{port_of(exporter)}/metrics"
        _get(url)
        guest.change(now)
        return _get(url)
    finally:
        exporter.stop()


def samples(text: str) -> list[tuple[str, str, str]]:
    """Return name, labels as written, and value of each sample in a body."""
    return [(found["name"], found["labels"] or "", found["value"]) for found in _SAMPLE.finditer(text)]


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - always http
        text: str = response.read().decode()
        return text
