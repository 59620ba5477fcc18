"""``python -m lab.daemon FOLDER …``: the exporter's daemon on a machine that is simulated by a folder; see guest.py."""

import argparse
import asyncio
from dataclasses import replace
from pathlib import Path

from kvm_exporter.app import daemon, log
from kvm_exporter.app.systemd import runtime_directory
from kvm_exporter.collector.boot import BootReferenceKeeper, read_boot
from kvm_exporter.collector.observer import Collected, Observation, Observer
from kvm_exporter.collector.sampler import Limits, Observe
from kvm_exporter.collector.sweep import CpuSelection
from kvm_exporter.config.baseline import watch_baseline
from kvm_exporter.cpuid.registers import BASES
from kvm_exporter.kvm.host import is_based_on_tsc
from kvm_exporter.kvm.leaves import Kvm
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.web.addresses import TcpAddress
from kvm_exporter.web.guard import watch_web_config
from lab.guest import LEAVES, ROOT
from lab.machine import DumpedMachine


def main() -> None:
    """Serve on the loopback. RUNTIME_DIRECTORY has the same meaning as for the real program."""
    arguments = _arguments()
    log.configure("info", arguments.log_format)
    machine = DumpedMachine(arguments.folder / LEAVES)
    keeper = BootReferenceKeeper(runtime_directory(), read_boot())
    observer = Observer(machine, CpuSelection(), keeper, host=False, root=arguments.folder / ROOT)
    options = daemon.Options([TcpAddress("127.0.0.1", arguments.port)], Limits(max_age=arguments.max_age))
    observe = elsewhere(observer.observe, arguments)
    baseline = watch_baseline(arguments.baseline) if arguments.baseline is not None else None
    web_config = None
    if arguments.web_config is not None:
        web_config = watch_web_config(arguments.web_config, runtime_directory())
    asyncio.run(daemon.serve(options, machine, observe, baseline, web_config))


def elsewhere(observe: Observe, arguments: argparse.Namespace) -> Observe:
    """Return an Observe of a machine that is as the arguments say: its clock, a CPU that fails, its own KVM."""

    def look(last: Sample | None) -> Observation:
        seen = observe(last)
        seen = replace(seen, sample=replace(seen.sample, timestamp=seen.sample.timestamp - arguments.clock_behind))
        if arguments.unreadable is not None:
            seen = replace(seen, sample=without(seen.sample, arguments.unreadable))
        if arguments.host_supports is None:
            return seen
        return replace(
            seen,
            host=Kvm(BASES.start, arguments.host_supports, 0),
            host_clocksource_based_on_tsc=is_based_on_tsc(arguments.host_clocksource),
            collectors={**seen.collectors, "host": Collected(success=True, duration=0.0)},
        )

    return look


def without(sample: Sample, cpu: int) -> Sample:
    """Return a sample in which a CPU could not be read."""
    sampled = {number: leaves for number, leaves in sample.sampled.items() if number != cpu}
    return replace(sample, sampled=sampled, failed={**sample.failed, cpu: "it is unreadable in this simulation"})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.daemon", allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="the machine")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--log-format", choices=log.FORMATS, default="json", help="default: %(default)s")
    parser.add_argument("--max-age", type=float, required=True, help="of a sample, in seconds; 0: never too old")
    parser.add_argument("--baseline", type=Path, help="a baseline's file")
    parser.add_argument("--web-config", type=Path, help="a web configuration's file")
    parser.add_argument("--clock-behind", type=float, default=0, help="seconds that the machine's clock is behind")
    parser.add_argument("--host-supports", type=lambda text: int(text, 0), help="EAX that the machine's own KVM offers")
    parser.add_argument("--host-clocksource", default="tsc", help="of a machine with KVM; default: %(default)s")
    parser.add_argument("--unreadable", type=int, metavar="CPU", help="a CPU that cannot be read")
    return parser.parse_args()


if __name__ == "__main__":
    main()
