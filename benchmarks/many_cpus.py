"""``python -m benchmarks.many_cpus PORT CPUS``: the daemon on a machine of so many CPUs, all of them under KVM."""

import asyncio
import sys

from support.live import LiveMachine, live_machine

from kvm_exporter import daemon
from kvm_exporter.addresses import TcpAddress
from kvm_exporter.observation import Observer
from kvm_exporter.sampler import Limits
from kvm_exporter.sweep import Selection

EAX = 0x01007EFB


def machine(cpus: int) -> LiveMachine:
    """CPUs that answer at once."""
    return live_machine(*[EAX] * cpus)


def main() -> None:
    """Serve."""
    port, cpus = map(int, sys.argv[1:])
    options = daemon.Options(addresses=[TcpAddress("127.0.0.1", port)], limits=Limits(max_age=3600))
    source = machine(cpus)
    asyncio.run(daemon.serve(options, source, Observer(source, Selection(), None, host=False).observe))


if __name__ == "__main__":
    main()
