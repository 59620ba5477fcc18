"""``python -m benchmarks.many_cpus PORT CPUS [--resample]``: run the daemon on a simulated KVM guest with many CPUs.

With ``--resample``, it takes a sample at every scrape, and otherwise one.
"""

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
    """A simulated machine whose CPUs return fixed registers."""

    def __init__(self, cpus: int) -> None:
        super().__init__(*[reader(kvm_rows(EAX))] * cpus)
        self._online = super().online()

    def online(self) -> tuple[int, ...]:
        """Return the numbers of the CPUs: the same object each time, as the real source does."""
        return self._online


def main() -> None:
    """Run the daemon."""
    port, cpus, *resample = sys.argv[1:]
    limits = Limits(max_age=1e-9 if resample else 3600)
    options = daemon.Options(addresses=[TcpAddress("127.0.0.1", int(port))], limits=limits)
    source = ManyCpus(int(cpus))
    asyncio.run(daemon.serve(options, source, Observer(source, CpuSelection(), None, host=False).observe))


if __name__ == "__main__":
    main()
