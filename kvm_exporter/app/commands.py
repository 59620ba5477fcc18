"""What each subcommand does: from its flags to its exit code."""

import argparse
import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kvm_exporter.app import daemon, log
from kvm_exporter.app.console import sample_of_dump, tell, write
from kvm_exporter.app.flags import DEFAULT_ADDRESS
from kvm_exporter.app.systemd import runtime_directory
from kvm_exporter.collector.boot import BootReferenceKeeper, read_boot_id
from kvm_exporter.collector.observer import Observation, Observer
from kvm_exporter.collector.record import record
from kvm_exporter.collector.sampler import Limits
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.collector.worker import Worker
from kvm_exporter.config.files import write_atomically
from kvm_exporter.cpuid.dump import format_dump
from kvm_exporter.cpuid.machine import Machine
from kvm_exporter.cpuid.topology import Topology
from kvm_exporter.errors import OutputError, UsageError
from kvm_exporter.kvm.baseline import violations
from kvm_exporter.kvm.drift import may_move
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.metrics.exporter import textfile_body
from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.machine import machine_families
from kvm_exporter.metrics.negotiation import Format
from kvm_exporter.report import table as report

EXIT_DRIFT = 1
EXIT_NOT_KVM = 3

OUTPUTS = ("table", "json", "prometheus")

T = TypeVar("T")


def serve(options: argparse.Namespace) -> int:
    """The daemon. Raises UsageError, ListenError, and ReadError where there is nothing to read."""
    web_config = None
    if options.web_config is not None:
        from kvm_exporter.web.guard import watch_web_config  # noqa: PLC0415 - with TLS, only where it is asked for

        web_config = watch_web_config(options.web_config, runtime_directory())
    if options.web_config_check:
        return _say_web_config_is_valid(options.web_config)
    if options.systemd_socket and options.addresses:
        raise UsageError("--web.systemd-socket and --web.listen-address exclude each other; leave one of them out")
    log.configure(options.log_level, options.log_format)
    baseline = None
    if options.baseline is not None:
        from kvm_exporter.config.baseline import watch_baseline  # noqa: PLC0415 - with YAML, only where it is asked for

        baseline = watch_baseline(options.baseline)
    settings = daemon.Options(
        addresses=[] if options.systemd_socket else options.addresses or [DEFAULT_ADDRESS],
        max_requests=options.max_requests,
        limits=Limits(options.max_age, options.timeout),
        telemetry_path=options.telemetry_path,
        cpu_features=options.cpu_features,
        exporter_metrics=options.exporter_metrics,
    )
    machine = Machine(Topology())
    keeper = BootReferenceKeeper(runtime_directory(), read_boot_id())
    observer = Observer(machine, CpuSelection(options.isolated, options.cpus), keeper, host=options.host)
    asyncio.run(daemon.serve(settings, machine, observer.observe, baseline, web_config))
    return 0


def show(options: argparse.Namespace) -> int:
    """Reads this machine."""
    observation = _observe(None)
    write(_rendered(observation, options.format))
    return 0 if observation.sample.common.kvm is not None else EXIT_NOT_KVM


def decode(options: argparse.Namespace) -> int:
    """Reads a dump. Raises UsageError."""
    write(_rendered(Observation(sample_of_dump(options.file)), options.format))
    return 0


def dump(_: argparse.Namespace) -> int:
    """Writes this machine's hypervisor leaves."""
    machine = Machine(Topology())
    recorded, failed = _in_worker(machine, lambda: record(machine))
    for cpu, why in failed.items():
        tell(f"CPU {cpu} failed: {why}")
    write(format_dump(recorded))
    return 0


def baseline(_: argparse.Namespace) -> int:
    """Writes a baseline of this machine."""
    from kvm_exporter.config.baseline import format_baseline  # noqa: PLC0415 - with YAML, only where it is asked for

    write(format_baseline(_sample_here()))
    return 0


def check(options: argparse.Namespace) -> int:
    """Holds this machine, or a dump, against a baseline. Raises UsageError."""
    from kvm_exporter.config.baseline import load_baseline  # noqa: PLC0415 - with YAML, only where it is asked for

    wanted = load_baseline(options.baseline)
    sample = sample_of_dump(options.dump) if options.dump is not None else _sample_here()
    found = violations(wanted, sample)
    write("".join(f"{line}\n" for line in found or ["as the baseline says"]))
    return EXIT_DRIFT if found else 0


def compare(options: argparse.Namespace) -> int:
    """Says whether a guest may move from the machine of one dump to that of another. Raises UsageError."""
    source, target = (sample_of_dump(name) for name in (options.source, options.target))
    write(report.comparison(source, target))
    return 0 if may_move(source, target) else EXIT_DRIFT


def write_textfile(options: argparse.Namespace) -> int:
    """Writes the gauges for node_exporter. Raises UsageError."""
    path: Path = options.path
    if path.suffix != ".prom":
        raise UsageError(
            f"{path}: the textfile collector reads only names that end in .prom; give one, such as kvm.prom"
        )
    if not os.path.isdir(path.parent):  # noqa: PTH112 - Path.is_dir() raises where it may not look
        raise UsageError(f"{path}: there is no directory {path.parent}; create it, or give node_exporter's own")
    # Of one run alone, "since the first sample of this boot" would say nothing.
    directory = runtime_directory()
    keeper = BootReferenceKeeper(directory, read_boot_id()) if directory is not None else None
    content = textfile_body(_observe(keeper))
    try:
        write_atomically(path, content)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; the previous file is unchanged") from error
    return 0


def _observe(keeper: BootReferenceKeeper | None) -> Observation:
    machine = Machine(Topology())
    observer = Observer(machine, CpuSelection(), keeper)
    return _in_worker(machine, lambda: observer.observe(None))


def _sample_here() -> Sample:
    machine = Machine(Topology())
    return _in_worker(machine, lambda: sweep(machine, CpuSelection(), None))


def _in_worker(machine: Machine, job: Callable[[], T]) -> T:
    """Run a job that reads in a thread that is freed when a CPU does not let it run."""

    async def run() -> T:
        return await Worker(machine).submit(job)

    return asyncio.run(run())


def _say_web_config_is_valid(path: Path | None) -> int:
    if path is None:
        raise UsageError("--web.config.check has nothing to check; give --web.config.file too")
    write(f"{path} is valid\n")
    return 0


def _rendered(observation: Observation, output: str) -> str:
    if output == "json":
        return report.as_json(observation)
    if output == "prometheus":
        return render(machine_families(observation.sample), Format.TEXT_0_0_4).decode()
    return report.table(observation)
