"""What each subcommand does: from its flags to its exit code."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kvm_exporter import daemon, log, report
from kvm_exporter.baseline import Baseline, format_baseline, violations
from kvm_exporter.cpuid import Machine
from kvm_exporter.drift import may_move
from kvm_exporter.dump import DumpError, format_dump, parse_dump
from kvm_exporter.exposition import render
from kvm_exporter.files import write_atomically
from kvm_exporter.flags import DEFAULT_ADDRESS
from kvm_exporter.metrics import machine_families
from kvm_exporter.negotiation import Format
from kvm_exporter.observation import Observation, Observer
from kvm_exporter.record import record
from kvm_exporter.reference import ReferenceKeeper, read_boot_id
from kvm_exporter.sample import Sample
from kvm_exporter.sampler import Limits
from kvm_exporter.site import BaselineKeeper
from kvm_exporter.sweep import Selection, look
from kvm_exporter.textfile import textfile_body
from kvm_exporter.topology import Topology
from kvm_exporter.worker import Worker

EXIT_FAILURE = 1
EXIT_DRIFT = 1
EXIT_USAGE = 2
EXIT_NOT_KVM = 3

OUTPUTS = ("table", "json", "prometheus")

T = TypeVar("T")


class UsageError(Exception):
    """What was asked for cannot be meant; the message says what to give instead."""


def serve(options: argparse.Namespace) -> int:
    """The daemon. Raises UsageError, AddressError, and ReadError where there is nothing to read."""
    log.configure(options.log_level, options.log_format)
    baseline = _keep_baseline(options.baseline) if options.baseline is not None else None
    settings = daemon.Options(
        addresses=options.addresses or [DEFAULT_ADDRESS],
        limits=Limits(options.max_age, options.timeout),
        telemetry_path=options.telemetry_path,
        cpu_features=options.cpu_features,
        exporter_metrics=options.exporter_metrics,
    )
    machine = Machine(Topology())
    keeper = ReferenceKeeper(_runtime_directory(), read_boot_id())
    observer = Observer(machine, Selection(options.isolated, options.cpus), keeper, host=options.host)
    asyncio.run(daemon.serve(settings, machine, observer.observe, baseline))
    return 0


def show(options: argparse.Namespace) -> int:
    """Reads this machine."""
    observation = _observe(None)
    sys.stdout.write(_rendered(observation, options.format))
    return 0 if observation.sample.common.kvm is not None else EXIT_NOT_KVM


def decode(options: argparse.Namespace) -> int:
    """Reads a dump. Raises UsageError."""
    sys.stdout.write(_rendered(Observation(_sample_of_dump(options.file)), options.format))
    return 0


def dump(_: argparse.Namespace) -> int:
    """Writes this machine's hypervisor leaves."""
    machine = Machine(Topology())
    recorded, failed = _in_worker(machine, lambda: record(machine))
    for why in failed.values():
        sys.stderr.write(f"kvm-exporter: {why}\n")
    sys.stdout.write(format_dump(recorded))
    return 0


def baseline(_: argparse.Namespace) -> int:
    """Writes a baseline of this machine."""
    sys.stdout.write(format_baseline(_sample_here()))
    return 0


def check(options: argparse.Namespace) -> int:
    """Holds this machine, or a dump, against a baseline. Raises UsageError."""
    wanted = _load_baseline(options.baseline)
    sample = _sample_of_dump(options.dump) if options.dump is not None else _sample_here()
    found = violations(wanted, sample)
    sys.stdout.write("".join(f"{line}\n" for line in found or ["as the baseline says"]))
    return EXIT_DRIFT if found else 0


def compare(options: argparse.Namespace) -> int:
    """Says whether a guest may move from the machine of one dump to that of another. Raises UsageError."""
    source, target = (_sample_of_dump(name) for name in (options.source, options.target))
    sys.stdout.write(report.comparison(source, target))
    return 0 if may_move(source, target) else EXIT_DRIFT


def write_textfile(options: argparse.Namespace) -> int:
    """Writes the gauges for node_exporter. Raises UsageError."""
    path: Path = options.path
    if path.suffix != ".prom":
        raise UsageError(
            f"{path}: the textfile collector reads only names that end in .prom; give one, such as kvm.prom"
        )
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no directory {path.parent}; create it, or give node_exporter's own")
    # Of one run alone, "since the first sample of this boot" would say nothing.
    directory = _runtime_directory()
    keeper = ReferenceKeeper(directory, read_boot_id()) if directory is not None else None
    content = textfile_body(_observe(keeper))
    try:
        write_atomically(path, content)
    except OSError as error:
        sys.stderr.write(f"kvm-exporter: {path}: cannot be written: {error.strerror}; what was there is as it was\n")
        return EXIT_FAILURE
    return 0


def _observe(keeper: ReferenceKeeper | None) -> Observation:
    machine = Machine(Topology())
    observer = Observer(machine, Selection(), keeper)
    return _in_worker(machine, lambda: observer.observe(None))


def _sample_here() -> Sample:
    machine = Machine(Topology())
    return _in_worker(machine, lambda: look(machine, Selection(), None))


def _sample_of_dump(name: str) -> Sample:
    try:
        text = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return look(parse_dump(text), Selection(), None)
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}; give a dump's file, or - for stdin") from error
    except DumpError as error:
        raise UsageError(f"{name}: {error}") from error


def _in_worker(machine: Machine, job: Callable[[], T]) -> T:
    """Run a job that reads in a thread that is freed when a CPU does not let it run."""

    async def run() -> T:
        return await Worker(machine).submit(job)

    return asyncio.run(run())


def _runtime_directory() -> Path | None:
    """What the service manager gives with RuntimeDirectory=, the first if there are several: systemd.exec(5)."""
    first = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None


def _keep_baseline(path: Path) -> BaselineKeeper:
    from kvm_exporter.baseline_file import BaselineError, BaselineFile  # noqa: PLC0415 - YAML only where it is asked for

    try:
        return BaselineFile(path)
    except BaselineError as error:
        raise UsageError(str(error)) from error


def _load_baseline(path: Path) -> Baseline:
    return _keep_baseline(path).baseline


def _rendered(observation: Observation, output: str) -> str:
    if output == "json":
        return report.as_json(observation)
    if output == "prometheus":
        return render(machine_families(observation.sample), Format.TEXT_0_0_4).decode()
    return report.table(observation)
