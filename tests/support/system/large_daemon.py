"""``python -m tests.support.system.large_daemon [FILE]``: the daemon on so many CPUs that responses are megabytes."""

import asyncio
import sys
from pathlib import Path

from kvm_exporter.app import daemon, log
from kvm_exporter.collector.observer import Observer
from kvm_exporter.collector.sampler import Limits
from kvm_exporter.collector.sweep import CpuSelection
from kvm_exporter.web.addresses import TcpAddress
from kvm_exporter.web.guard import watch_web_config
from lab.live import live_machine

CPUS = 512
EAX = 0x01007EFB
"""All that this machine's kernel may show that it uses: the log says what is used and not offered."""


def main() -> None:
    """Serve on a free port, with a web configuration if there is one."""
    log.configure("info", None)
    options = daemon.Options(
        addresses=[TcpAddress("127.0.0.1", 0)], limits=Limits(max_age=3600), max_requests=0, cpu_features=True
    )
    machine = live_machine(*[EAX] * CPUS)
    observer = Observer(machine, CpuSelection(), None, host=False)
    web_config = watch_web_config(Path(sys.argv[1]), None) if len(sys.argv) > 1 else None
    asyncio.run(daemon.serve(options, machine, observer.observe, web_config=web_config))


if __name__ == "__main__":
    main()
