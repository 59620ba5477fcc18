"""``python -m benchmarks [NAME…]``: measure, print a table in Markdown, and write build/bench.json."""

import argparse
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import attacks, footprint, growth, scrapes, sweeps
from benchmarks.effort import Effort
from benchmarks.figures import Figure, as_json, table
from benchmarks.programs import peer
from lab.tree import REPOSITORY

MEASUREMENTS: dict[str, Callable[[Effort], Iterator[Figure]]] = {
    "sweeps": sweeps.measure,
    "scrapes": scrapes.measure,
    "footprint": footprint.measure,
    "growth": growth.measure,
    "attacks": attacks.measure,
}


def main() -> None:
    """Run the measurements that the command line names, by default all."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(MEASUREMENTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a short test run; the figures mean nothing")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "build" / "bench.json", help="default: %(default)s")
    options = parser.parse_args()
    if unknown := set(options.names) - MEASUREMENTS.keys():
        parser.error(f"{', '.join(sorted(unknown))}: no such measurement; choose from {', '.join(MEASUREMENTS)}")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        effort = Effort(Path(folder))
        if options.quick:
            counts = {"rounds": 2, "requests": 5, "blocks": 2, "starts": 1}
            effort = Effort(Path(folder), **counts, idle_seconds=0.5, cpus=(2, 64), attack_seconds=0.5, attackers=0.05)
        for name in options.names or MEASUREMENTS:
            sys.stderr.write(f"measuring {name}\n")
            figures += MEASUREMENTS[name](effort)
    options.output.write_text(as_json(about(), figures), encoding="utf-8")
    sys.stdout.write("".join(f"- {name}: {value}\n" for name, value in about().items()))
    sys.stdout.write(f"\n{table(figures)}\n")


def about() -> dict[str, str]:
    """Return a description of the machine, and the versions of the programs that were measured."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    model = next((line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "")
    return {
        "processor": f"{model}, {cpuinfo.count('processor	:')} CPUs",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "node_exporter": version("usr/bin/prometheus-node-exporter", "--version"),
        "nginx": version("usr/sbin/nginx", "-v"),
    }


def version(path: str, flag: str) -> str:
    """Return the first line of the output of a program's version flag."""
    result = subprocess.run([peer(path), flag], check=True, capture_output=True, text=True)
    return (result.stdout or result.stderr).splitlines()[0]


if __name__ == "__main__":
    main()
