"""``python -m tests.fuzz FOLDER SECONDS [TARGET …]``: run atheris, guided by coverage, on each target for a time.

Inputs that reach new code are kept in FOLDER, where the next run continues. Inputs that break a target are written
there as well, and make the exit code 1. With ``SECONDS`` 0 nothing is fuzzed; instead the committed corpus is
minimised together with the inputs in FOLDER.
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"

MOST_BYTES = 4096
"""The maximum size of an input, in bytes."""

MOST_MEGABYTES = 1024
"""The maximum memory of a target, in megabytes; exceeding it is a finding."""

SLOW_SECONDS = 10
"""The maximum time for one input, in seconds; exceeding it is a finding."""


def run(folder: Path, seconds: int, target: str) -> bool:
    """Fuzz one target in a child process; returns whether no finding was made."""
    found, committed = folder / target, CORPUS / target
    for directory in (found, committed):
        directory.mkdir(parents=True, exist_ok=True)
    if seconds:
        return _fuzzed(folder, target, f"-max_total_time={seconds}", found, committed)
    smallest = folder / f"{target}.smallest"
    shutil.rmtree(smallest, ignore_errors=True)
    smallest.mkdir()
    merged = _fuzzed(folder, target, "-set_cover_merge=1", smallest, committed, found)
    if merged:
        shutil.rmtree(committed)
        shutil.move(smallest, committed)
    return merged


def _fuzzed(folder: Path, target: str, *work: str | Path) -> bool:
    limits = [f"-max_len={MOST_BYTES}", f"-rss_limit_mb={MOST_MEGABYTES}", f"-timeout={SLOW_SECONDS}"]
    fuzzer = [sys.executable, "-m", "tests.fuzz", "--", target, f"-artifact_prefix={folder}/{target}-", *limits, *work]
    return subprocess.run(fuzzer, check=False).returncode == 0


def fuzz(target: str, options: list[str]) -> None:
    """Run the fuzzer in this process with libFuzzer's options and folders."""
    import atheris  # noqa: PLC0415 - not needed to replay the corpus

    # The YAML parser is instrumented for fuzzing, but not for the choice of the corpus.
    merging = any("merge" in option for option in options)
    with atheris.instrument_imports(include=["kvm_exporter", "h11", *([] if merging else ["yaml"])]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - imports here are instrumented

    # To merge, libFuzzer runs the first word again in a shell.
    atheris.Setup([shlex.join([sys.executable, "-m", "tests.fuzz", "--", target]), *options], TARGETS[target])
    atheris.Fuzz()


def main() -> None:
    """Fuzz the targets one after the other."""
    if sys.argv[1] == "--":
        fuzz(sys.argv[2], sys.argv[3:])
        return
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - the fuzzer imports it instrumented

    folder, seconds, *wanted = sys.argv[1:]
    broken = [target for target in wanted or TARGETS if not run(Path(folder), int(seconds), target)]
    if broken:
        sys.exit(f"{', '.join(broken)}: what breaks them is in {folder}")


if __name__ == "__main__":
    main()
