"""What each subcommand does: from its flags to its exit code."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kvm_exporter import daemon, log, report
from kvm_exporter.cpuid import Machine
from kvm_exporter.dump import DumpError, format_dump, parse_dump
from kvm_exporter.exposition import render
from kvm_exporter.flags import DEFAULT_ADDRESS
from kvm_exporter.metrics import machine_families
from kvm_exporter.negotiation import Format
from kvm_exporter.record import record
from kvm_exporter.sample import Sample
from kvm_exporter.sampler import Limits
from kvm_exporter.sweep import Selection, look
from kvm_exporter.textfile import textfile_body, write_atomically
from kvm_exporter.topology import Topology
from kvm_exporter.worker import Worker

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_NOT_KVM = 3

OUTPUTS = ("table", "json", "prometheus")

T = TypeVar("T")


class UsageError(Exception):
    """What was asked for cannot be meant; the message says what to give instead."""


def serve(options: argparse.Namespace) -> int:
    """The daemon. Raises AddressError, and ReadError where there is nothing to read."""
    log.configure(options.log_level, options.log_format)
    settings = daemon.Options(
        addresses=options.addresses or [DEFAULT_ADDRESS],
        telemetry_path=options.telemetry_path,
        exporter_metrics=options.exporter_metrics,
        selection=Selection(options.isolated, options.cpus),
        limits=Limits(options.max_age, options.timeout),
    )
    asyncio.run(daemon.serve(settings, Machine(Topology())))
    return 0


def show(options: argparse.Namespace) -> int:
    """Reads this machine."""
    sample = _sample_here()
    sys.stdout.write(_rendered(sample, options.format))
    return 0 if sample.common.kvm is not None else EXIT_NOT_KVM


def decode(options: argparse.Namespace) -> int:
    """Reads a dump. Raises UsageError."""
    try:
        sample = look(parse_dump(_read(options.file)), Selection(), None)
    except DumpError as error:
        raise UsageError(f"{options.file}: {error}") from error
    sys.stdout.write(_rendered(sample, options.format))
    return 0


def dump(_: argparse.Namespace) -> int:
    """Writes this machine's hypervisor leaves."""
    machine = Machine(Topology())
    recorded, failed = _in_worker(machine, lambda: record(machine))
    for why in failed.values():
        sys.stderr.write(f"kvm-exporter: {why}\n")
    sys.stdout.write(format_dump(recorded))
    return 0


def write_textfile(options: argparse.Namespace) -> int:
    """Writes the gauges for node_exporter. Raises UsageError."""
    path: Path = options.path
    if path.suffix != ".prom":
        raise UsageError(
            f"{path}: the textfile collector reads only names that end in .prom; give one, such as kvm.prom"
        )
    if not path.parent.is_dir():
        raise UsageError(
            f"{path}: there is no directory {path.parent}; create it, or give node_exporter's textfile directory"
        )
    content = textfile_body(_sample_here())
    try:
        write_atomically(path, content)
    except OSError as error:
        sys.stderr.write(f"kvm-exporter: {path}: cannot be written: {error.strerror}; what was there is as it was\n")
        return EXIT_FAILURE
    return 0


def _sample_here() -> Sample:
    machine = Machine(Topology())
    return _in_worker(machine, lambda: look(machine, Selection(), None))


def _in_worker(machine: Machine, job: Callable[[], T]) -> T:
    """Run a job that reads in a thread that is freed when a CPU does not let it run."""

    async def run() -> T:
        return await Worker(machine).submit(job)

    return asyncio.run(run())


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(
            f"{name}: cannot be read: {error.strerror}; give the file of a dump, or - for standard input"
        ) from error


def _rendered(sample: Sample, output: str) -> str:
    if output == "json":
        return report.as_json(sample)
    if output == "prometheus":
        return render(machine_families(sample), Format.TEXT_0_0_4).decode()
    return report.table(sample)
