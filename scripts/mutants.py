"""``scripts/mutants.py [MODULE …]``: mutation tests of the modules that decode and compare.

A mutant is a small change of the code; it survives if all tests pass. The exit code is 1 if a mutant survives that
scripts/mutants.toml does not list, or if the list has a mutant that does not survive. An entry for code that was moved
or changed is stale: it is reported before any test runs. Works on a copy of the tree.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "scripts" / "mutants.toml"
MEMORY = "/dev/shm"  # noqa: S108 - a folder of our own is made in it
"""The parent of the working folder, in memory: writing to a disk would take most of the time."""

TIMEOUT_SECONDS = 60
"""The limit for the tests of one mutant; a mutant that exceeds it counts as killed."""

CONFIG = """\
[cosmic-ray]
module-path = "kvm_exporter/{module}"
timeout = {timeout}
excluded-modules = []
test-command = "{command}"

[cosmic-ray.distributor]
name = "local"
"""

PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutants")


class Mutant(NamedTuple):
    """A change: the module, the function or class that contains it, and the lines before and after."""

    module: str
    within: str
    line: str
    becomes: str

    def as_toml(self) -> str:
        """Return an entry for scripts/mutants.toml without a reason."""
        lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in self._asdict().items())
        return "\n".join(["[[survivor]]", *lines, 'why = ""'])


def main(wanted: Sequence[str]) -> int:
    """Test the modules ``wanted``, by default all; return the exit code."""
    listed = tomllib.loads(LIST.read_text(encoding="utf-8"))
    tests: Mapping[str, list[str]] = listed["modules"]
    entries = [Mutant(*(entry[key] for key in Mutant._fields)) for entry in listed.get("survivor", [])]
    if problems := [*_unknown_files(tests), *_stale(entries, tests), *_unlisted(wanted, tests)]:
        print("\n".join(problems))
        return 1
    modules = wanted or list(tests)
    with TemporaryDirectory(dir=MEMORY) as folder:
        tree = _copy(Path(folder))
        survivors = {mutant for module in modules for mutant in _survivors(tree, module, tests[module])}
    explained = {entry for entry in entries if entry.module in modules}
    for mutant in sorted(survivors - explained):
        print(f"\nthis mutant survives: write a test, or explain it in {LIST.name}\n{mutant.as_toml()}")
    for mutant in sorted(explained - survivors):
        print(f"\nthis mutant does not survive: remove it from {LIST.name}\n{mutant.as_toml()}")
    return int(survivors != explained)


def _unknown_files(tests: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a message for each module or test file of the list that does not exist."""
    for module, files in tests.items():
        for file in (f"kvm_exporter/{module}", *files):
            if not (ROOT / file).exists():
                yield f"{LIST.name} lists {file} under modules, which does not exist: correct its path"


def _stale(entries: Sequence[Mutant], tests: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a message for each entry whose module is not listed, or has no such line in that function or class."""
    for entry in entries:
        if entry.module not in tests:
            yield f"{LIST.name} explains a mutant of {entry.module}, which is not under modules: list or remove it"
        elif not set(entry.line.splitlines()) <= set(_code(entry.module, entry.within)):
            yield (
                f"{LIST.name} explains a mutant of {entry.within or 'the top level'} in {entry.module}, which has no"
                f" such line any more: correct or remove the entry\n    {entry.line}"
            )


def _unlisted(wanted: Sequence[str], tests: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a message for each module that is wanted and has no tests in the list."""
    for module in wanted:
        if module not in tests:
            yield f"{LIST.name} does not list {module}; it lists {', '.join(tests)}"


def _code(module: str, within: str) -> Iterator[str]:
    """Yield the stripped lines of a module's functions and classes that have a name; of all of it if that is empty."""
    path = ROOT / "kvm_exporter" / module
    if not path.exists():
        return
    code = path.read_text(encoding="utf-8")
    lines = [line.strip() for line in code.splitlines()]
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == within:
            yield from lines[node.lineno - 1 : node.end_lineno]
    if not within:
        yield from lines


def _copy(folder: Path) -> Path:
    """Copy the files that the tests need to a folder; return the copy."""
    tree = folder / "tree"
    (tree / "tmp").mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("kvm_exporter", "tests", "lab", "demo"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree


def _survivors(tree: Path, module: str, tests: Sequence[str]) -> Iterator[Mutant]:
    name = module.replace("/", ".")
    config, session = tree / f"{name}.toml", tree / f"{name}.sqlite"
    config.write_text(
        CONFIG.format(module=module, timeout=TIMEOUT_SECONDS, command=" ".join([*PYTEST, *tests])), encoding="utf-8"
    )
    # The tests have to pass without a mutant, or every mutant would seem to be killed.
    _run(tree, *PYTEST, *tests)
    cosmic_ray = str(Path(sys.executable).with_name("cosmic-ray"))
    _run(tree, cosmic_ray, "init", str(config), str(session))
    _run(tree, cosmic_ray, "exec", str(config), str(session))
    outcomes: Counter[str] = Counter()
    for line in _run(tree, cosmic_ray, "dump", str(session)).splitlines():
        item, result = json.loads(line)
        outcome = result["test_outcome"]
        outcomes[outcome] += 1
        if outcome != "killed":
            [mutation] = item["mutations"]
            yield Mutant(module, mutation["definition_name"] or "", *_lines(result["diff"]))
    print(f"{module}: {dict(outcomes)}", flush=True)


def _lines(diff: str) -> Iterator[str]:
    """Yield the lines that a unified diff removes, then those that it adds, each as one text."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    for sign in "-+":
        yield "\n".join(line[1:].strip() for line in lines if line.startswith(sign))


def _run(tree: Path, *command: str) -> str:
    environment = {**os.environ, "CI": "", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(tree / "tmp")}
    return subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
