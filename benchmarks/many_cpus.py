"""``python -m benchmarks.many_cpus PORT CPUS``: the daemon on a machine of so many CPUs, all of them under KVM."""

import asyncio
import sys

from kvm_exporter.app import daemon
from kvm_exporter.collector.observer import Observer
from kvm_exporter.collector.sampler import Limits
from kvm_exporter.collector.sweep import CpuSelection
from kvm_exporter.web.addresses import TcpAddress
from lab.live import LiveMachine
from lab.readers import kvm_rows, reader

EAX = 0x01007EFB


class ManyCpus(LiveMachine):
    """CPUs that answer at once."""

    def __init__(self, cpus: int) -> None:
        super().__init__(*[reader(kvm_rows(EAX))] * cpus)
        self._online = super().online()

    def online(self) -> tuple[int, ...]:
        """The same object each time, as the real one."""
        return self._online


def main() -> None:
    """Serve."""
    port, cpus = map(int, sys.argv[1:])
    options = daemon.Options(addresses=[TcpAddress("127.0.0.1", port)], limits=Limits(max_age=3600))
    source = ManyCpus(cpus)
    asyncio.run(daemon.serve(options, source, Observer(source, CpuSelection(), None, host=False).observe))


if __name__ == "__main__":
    main()
