"""``python -m tests.support.system.staged_daemon SCENE ROOT``: the daemon on a synthetic machine in a given state."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kvm_exporter.app import daemon, log
from kvm_exporter.collector.boot import Boot, BootReferenceKeeper
from kvm_exporter.collector.observer import Observer
from kvm_exporter.collector.sampler import Limits
from kvm_exporter.collector.sweep import CpuSelection
from kvm_exporter.cpuid.registers import Reader
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.clock import decode_pvclock
from kvm_exporter.kvm.leaves import Leaves, find_hypervisors, read_leaves
from kvm_exporter.web.addresses import TcpAddress
from lab.live import LiveMachine
from lab.pvclock import pvclock_page
from lab.readers import BARE_METAL, kvm_rows, reader, sample_of, signature_leaf

MARKUP = b"<img src=x>\0"
"""A signature that would load an image."""

RELUCTANT = "it is held by <b>\"another\" task</b> & 'friends'"
"""A reason that would be bold."""


def kvm(eax: int) -> Reader:
    """KVM's leaves, and another hypervisor's signature behind them."""
    return reader({**kvm_rows(eax), 0x4000_0100: signature_leaf(MARKUP, 0x4000_0101)})


def leaves(read: Reader) -> Leaves:
    """What a reader says."""
    return read_leaves(read, find_hypervisors(read))


BARE, ALL, MIGRATED, OLD = reader(BARE_METAL), kvm(0x01007EFB), kvm(0x0104007B), kvm(0x0100000B)

STOCK = reader(kvm_rows(0x01007AFB))
"""What QEMU's -cpu host offers."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The CPUs as they are, and as they all were at boot; and how many readings succeed."""

    cpus: tuple[Reader | str, ...]
    boot: Reader
    readings: int = sys.maxsize


SCENES = {
    "alike": Scene((ALL, ALL), ALL),
    "stock": Scene((STOCK, STOCK), STOCK),
    "drifted": Scene((MIGRATED, OLD, MIGRATED, RELUCTANT), ALL),
    "gone": Scene((BARE, BARE), ALL),
    "bare": Scene((BARE,), BARE),
    "stale": Scene((ALL, ALL), ALL, readings=1),
    "silent": Scene((ALL,), ALL, readings=0),
}


GUEST = {
    "proc/cmdline": "root=/dev/vda1\n",
    "proc/cpuinfo": "flags\t\t: fpu\n",
    "proc/stat": "cpu  9000 0 4000 80000 500 0 100 0 0 0\n",
    "proc/sys/kernel/osrelease": "6.1.0-50-cloud-amd64\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "sys/devices/system/cpu/possible": "0-1\n",
}
"""Files of a guest kernel that shows no use of any feature; a test's own files take their place."""


class StagedMachine(LiveMachine):
    """A scene's."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(*scene.cpus)
        self.page = pvclock_page()
        self._last = scene.readings

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Fail from some reading on."""
        if self.readings >= self._last:
            self.fault = ReadError("this machine was told to fail")
        with super().reading():
            yield


def main() -> None:
    """Serve on a free port."""
    name, root = sys.argv[1:]
    log.configure("info", None)
    scene = SCENES[name]
    for file, text in GUEST.items():
        path = Path(root, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(text)
    directory = Path(root, "run", name)
    directory.mkdir(parents=True, exist_ok=True)
    keeper = BootReferenceKeeper(directory, Boot("staged", 0.0, 0.0))
    machine = StagedMachine(scene)
    clock = decode_pvclock(pvclock_page())
    keeper.reference(replace(sample_of({0: leaves(scene.boot)}, clock=clock), boottime=20.0))
    observer = Observer(machine, CpuSelection(), keeper, host=False, root=Path(root))
    options = daemon.Options(addresses=[TcpAddress("127.0.0.1", 0)], limits=Limits(max_age=0.001))
    asyncio.run(daemon.serve(options, machine, observer.observe))


if __name__ == "__main__":
    main()
