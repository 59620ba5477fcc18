"""``python -m tests.fuzz FOLDER SECONDS [TARGET …]``: atheris, guided by coverage, on each target for so many seconds.

What it finds new is kept in FOLDER, and goes on from there the next time; what breaks a target is written there as
well, and makes the exit code 1. ``SECONDS`` 0 fuzzes nothing, but makes the committed corpus anew, as small as it can
be, out of itself and what was found.
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"

MOST_BYTES = 4096
"""Of an input."""

MOST_MEGABYTES = 1024
"""Of memory; what takes more is a finding."""

SLOW_SECONDS = 10
"""An input that takes longer is a finding."""


def run(folder: Path, seconds: int, target: str) -> bool:
    """Fuzz one target in a process of its own; whether it holds."""
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
    """Be the fuzzer: libFuzzer's options and folders."""
    import atheris  # noqa: PLC0415 - whoever replays the corpus has no need of it

    # What only YAML's parser tells apart is worth a try, but not a place in the corpus.
    merging = any("merge" in option for option in options)
    with atheris.instrument_imports(include=["kvm_exporter", "h11", *([] if merging else ["yaml"])]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - what is imported here is watched

    # A shell runs the first word again, to merge.
    atheris.Setup([shlex.join([sys.executable, "-m", "tests.fuzz", "--", target]), *options], TARGETS[target])
    atheris.Fuzz()


def main() -> None:
    """Fuzz the targets one after the other."""
    if sys.argv[1] == "--":
        fuzz(sys.argv[2], sys.argv[3:])
        return
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - not in the fuzzer, where it is watched

    folder, seconds, *wanted = sys.argv[1:]
    broken = [target for target in wanted or TARGETS if not run(Path(folder), int(seconds), target)]
    if broken:
        sys.exit(f"{', '.join(broken)}: what breaks them is in {folder}")


if __name__ == "__main__":
    main()
