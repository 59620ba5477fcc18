"""The subcommands. Each takes the parsed flags, prints its result and returns the exit code."""

import argparse
import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kvm_exporter.app import daemon, log
from kvm_exporter.app.console import file_named, print_error, sample_of_dump, side_of_dump, terminal_width, write
from kvm_exporter.app.flags import DEFAULT_ADDRESS
from kvm_exporter.app.systemd import runtime_directory
from kvm_exporter.collector.boot import FILE_NAME, BootReferenceKeeper, read_boot
from kvm_exporter.collector.host import supported_cpuid
from kvm_exporter.collector.observer import Observation, Observer
from kvm_exporter.collector.record import record, record_host
from kvm_exporter.collector.sampler import Limits
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.collector.worker import Worker
from kvm_exporter.config.files import Reloaded, write_atomically
from kvm_exporter.cpuid.cpulist import format_cpu_list
from kvm_exporter.cpuid.dump import format_dump
from kvm_exporter.cpuid.machine import Machine
from kvm_exporter.cpuid.topology import Topology
from kvm_exporter.errors import InputError, OutputError, ReadError, UsageError
from kvm_exporter.kvm import migration
from kvm_exporter.kvm.baseline import violations
from kvm_exporter.kvm.effects import Level
from kvm_exporter.kvm.leaves import Kvm
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import summary, unread
from kvm_exporter.metrics.exporter import textfile_body
from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.machine import host_families, machine_families
from kvm_exporter.metrics.negotiation import Format
from kvm_exporter.report import table as report
from kvm_exporter.report.check import check_text
from kvm_exporter.report.comparison import comparison_json, comparison_text
from kvm_exporter.report.findings import divergent, inconsistent
from kvm_exporter.report.host import host_json, host_table

if TYPE_CHECKING:
    from kvm_exporter.web.guard import Web

EXIT_DRIFT = 1
EXIT_NOT_KVM = 3

RUNTIME_DIRECTORIES = (Path("/run/prometheus-kvm-exporter"), Path("/run/kvm-exporter"))
"""Where the units of the Debian package and of docs/deploying.md have the daemon keep its boot reference."""

OUTPUTS = ("table", "json", "prometheus")

T = TypeVar("T")


def serve(options: argparse.Namespace) -> int:
    """Run the daemon until SIGTERM or SIGINT.

    Raises UsageError or InputError for invalid flags or files, ListenError if an address cannot be used, and ReadError
    if this process cannot execute CPUID.
    """
    if options.web_config_check:
        return _confirm(options.web_config, None, "--web.config.check needs a file to check; add --web.config.file")
    if options.config_check:
        missing = "--config.check needs files; add --web.config.file or --baseline.file"
        return _confirm(options.web_config, options.baseline, missing)
    if options.systemd_socket and options.addresses:
        raise UsageError("--web.systemd-socket and --web.listen-address are mutually exclusive; remove one")
    web_config = _watch_web_config(options.web_config) if options.web_config is not None else None
    handler = log.configure(options.log_level, options.log_format)
    baseline = None
    if options.baseline is not None:
        from kvm_exporter.config.baseline import watch_baseline  # noqa: PLC0415 - imports yaml only if needed

        baseline = watch_baseline(options.baseline)
    settings = daemon.Options(
        addresses=[] if options.systemd_socket else options.addresses or [DEFAULT_ADDRESS],
        max_requests=options.max_requests,
        limits=Limits(options.max_age, options.timeout),
        telemetry_path=options.telemetry_path,
        cpu_features=options.cpu_features,
        exporter_metrics=not options.disable_exporter_metrics,
        dropped_messages=lambda: handler.dropped,
    )
    topology = Topology()
    if options.cpus is not None and (possible := topology.possible()) and not options.cpus & possible:
        cpus = format_cpu_list(possible)
        raise UsageError(f"--sample.cpus: this machine has none of these CPUs; it can have {cpus}")
    machine = Machine(topology)
    keeper = BootReferenceKeeper(options.reference_directory or runtime_directory(), read_boot())
    observer = Observer(machine, CpuSelection(options.isolated, options.cpus), keeper, host=options.host)
    try:
        asyncio.run(daemon.serve(settings, machine, observer.observe, baseline, web_config))
    finally:
        handler.close()  # the log comes before the error message
    return 0


def show(options: argparse.Namespace) -> int:
    """Sample this machine and print it. Returns EXIT_NOT_KVM if the hypervisor is not KVM. Raises ReadError."""
    observation = _observe(_kept_reference(options.reference_directory))
    write(_format(observation, options.format))
    _require_pinned(observation.sample)
    return 0 if observation.sample.common.kvm is not None else EXIT_NOT_KVM


def decode(options: argparse.Namespace) -> int:
    """Print the sample in a dump, or what the host can offer if it is a host's. Raises InputError."""
    side = side_of_dump(options.file)
    host = side.sample.common.kvm if side.of_host else None
    write(_format(Observation(side.sample), options.format) if host is None else _format_host(host, options.format))
    return 0


def dump(options: argparse.Namespace) -> int:
    """Print the hypervisor leaves of every CPU as a raw dump; CPUs that failed go to stderr. Raises ReadError.

    With --host, print those that this machine's own KVM can offer.
    """
    if options.host:
        return _dump_host()
    machine = Machine(Topology())
    recorded, failed = _in_worker(machine, lambda: record(machine))
    for cpu, reason in failed.items():
        print_error(f"CPU {cpu} failed: {reason}")
    write(format_dump(recorded))
    return 0


def _dump_host() -> int:
    if (supported := supported_cpuid()) is None:
        raise ReadError(
            "/dev/kvm does not exist, so this machine cannot run KVM guests; load the module kvm_intel or kvm_amd, or "
            "run this on a hypervisor host"
        )
    write(format_dump(record_host(supported)))
    return 0


def baseline(_: argparse.Namespace) -> int:
    """Print a baseline file that requires the features of this machine. Raises ReadError."""
    from kvm_exporter.config.baseline import format_baseline  # noqa: PLC0415 - imports yaml only if needed

    write(format_baseline(_sample_here()))
    return 0


def check(options: argparse.Namespace) -> int:
    """Print how this machine, or a dump, violates a baseline, and how its features contradict each other.

    Returns EXIT_DRIFT for a violation, a contradiction or a CPU that could not be read. Raises ReadError, InputError
    for an invalid file or where neither a baseline nor KVM is found, and UsageError if both files are standard input.
    """
    baseline = None
    if options.baseline is not None:
        from kvm_exporter.config.baseline import load_baseline  # noqa: PLC0415 - imports yaml only if needed

        if options.baseline == options.dump == "-":
            raise UsageError("--baseline and --dump are both standard input; name the file of one of them")
        baseline = load_baseline(file_named(options.baseline))
    sample = sample_of_dump(options.dump) if options.dump is not None else _sample_here()
    if baseline is None and sample.common.kvm is None:
        where = options.dump or "this machine"
        raise InputError(f"{where}: {summary(sample.common)}; without KVM's leaves, check needs --baseline")
    broken = violations(baseline, sample) if baseline is not None else None
    found = (*divergent(sample), *inconsistent(sample))
    write(check_text(sample, broken, found))
    return EXIT_DRIFT if broken or sample.failed or any(finding.level >= Level.WARNING for finding in found) else 0


def compare(options: argparse.Namespace) -> int:
    """Print whether a running guest can migrate between the machines of two dumps. Returns EXIT_DRIFT if it cannot.

    Raises InputError, and UsageError if both are standard input.
    """
    if options.source == options.target == "-":
        raise UsageError("A and B are both standard input; name the file of one of them")
    source, target = (side_of_dump(name) for name in (options.source, options.target))
    found = migration.compare(source, target)
    if not found.reasons and source.sample.common.kvm is None:
        raise InputError(f"{options.source}: has no leaves of KVM to compare with those of {options.target}")
    write(comparison_json(found) if options.format == "json" else comparison_text(found))
    return 0 if found.compatible and not (options.strict and found.warnings) else EXIT_DRIFT


def write_textfile(options: argparse.Namespace) -> int:
    """Sample this machine and write a file for node_exporter's textfile collector.

    Raises UsageError for an unsuitable path, OutputError if the file cannot be written, and ReadError.
    """
    path: Path = options.path
    if path.suffix != ".prom":
        raise UsageError(
            f"{path}: the textfile collector ignores names that do not end in .prom; give a name such as kvm.prom"
        )
    if not os.path.isdir(path.parent):  # noqa: PTH112 - Path.is_dir() raises PermissionError
        raise UsageError(
            f"{path}: directory {path.parent} does not exist; create it, or use node_exporter's textfile directory"
        )
    # Without a directory there is no earlier run to compare with, so no boot reference is reported.
    directory = runtime_directory()
    keeper = BootReferenceKeeper(directory, read_boot()) if directory is not None else None
    content = textfile_body(_observe(keeper), options.max_age)
    try:
        write_atomically(path, content)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; the previous file is unchanged") from error
    return 0


def write_units(options: argparse.Namespace) -> int:
    """Write the systemd units of this installation, and what belongs to them, and print what to do next.

    Raises UsageError if they could not start it, and OutputError.
    """
    from kvm_exporter.app import units  # noqa: PLC0415 - what makes pages and completions, which the daemon never does

    root = options.root.absolute()
    environment = units.environment_file(Path("/etc"))
    files = units.files(units.this_installation(root), Path(options.prefix), environment, options.program)
    for line in units.install(root, files, environment):
        write(f"{line}\n")
    if root == Path("/"):
        write(units.NEXT)
    return 0


def _kept_reference(directory: Path | None) -> BootReferenceKeeper | None:
    """The boot reference that the daemon keeps, where it can be read; says so where root alone may read it."""
    candidates = (directory,) if directory is not None else (runtime_directory(), *RUNTIME_DIRECTORIES)
    for candidate in candidates:
        path = candidate / FILE_NAME if candidate is not None else None
        try:
            if path is not None and path.exists():
                return BootReferenceKeeper(candidate, read_boot(), read_only=True)
        except PermissionError:
            print_error(f"{path}: only root can read the boot reference; run this with sudo to see changes since boot")
            return None
    if directory is not None:
        print_error(f"{directory} has no boot reference; name the directory of the daemon's --reference.directory")
    return None


def _observe(keeper: BootReferenceKeeper | None) -> Observation:
    machine = Machine(Topology())
    observer = Observer(machine, CpuSelection(), keeper)
    return _in_worker(machine, lambda: observer.observe(None))


def _sample_here() -> Sample:
    machine = Machine(Topology())
    sample = _in_worker(machine, lambda: sweep(machine, CpuSelection(), None))
    _require_pinned(sample)
    return sample


def _require_pinned(sample: Sample) -> None:
    """Raise ReadError if no CPU could be read by a thread pinned there."""
    if not sample.pinned:
        raise ReadError(f"no CPU could be read: {unread(sample)}")


def _in_worker(machine: Machine, job: Callable[[], T]) -> T:
    """Run a job in the thread that reads CPUID, and return its result.

    If the thread is pinned to a CPU and cannot run there, it is unpinned after a deadline.
    """

    async def run() -> T:
        return await Worker(machine).submit(job)

    return asyncio.run(run())


def _watch_web_config(path: Path) -> "Reloaded[Web]":
    from kvm_exporter.web.guard import watch_web_config  # noqa: PLC0415 - imports ssl only if needed

    return watch_web_config(path, runtime_directory())


def _confirm(web_config: Path | None, baseline: Path | None, missing: str) -> int:
    """Print of each file that it is valid, or what is wrong with it. Raises UsageError without files."""
    from kvm_exporter.config.baseline import load_baseline  # noqa: PLC0415 - imports yaml only if needed

    files = ((web_config, _watch_web_config), (baseline, load_baseline))
    if not any(path for path, _ in files):
        raise UsageError(missing)
    code = 0
    for path, load in files:
        try:
            if path is not None:
                load(path)
                write(f"{path} is valid\n")
        except InputError as error:
            print_error(str(error))
            code = error.exit_code
    return code


def _format(observation: Observation, output: str) -> str:
    if output == "json":
        return report.as_json(observation)
    if output == "prometheus":
        return render(machine_families(observation.sample), Format.TEXT_0_0_4).decode()
    return report.table(observation, terminal_width())


def _format_host(host: Kvm, output: str) -> str:
    if output == "json":
        return host_json(host)
    if output == "prometheus":
        return render(host_families(host), Format.TEXT_0_0_4).decode()
    return host_table(host, terminal_width())
