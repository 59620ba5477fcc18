"""Imports go down the rooms and never up, and each outside library has one importer: read from the source itself."""

import ast
from pathlib import Path

import pytest

import kvm_exporter

PACKAGE = Path(kvm_exporter.__file__).parent
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}

ALLOWED = {
    "app": {"metrics", "report", "collector", "web", "config", "kvm", "cpuid"},
    "metrics": {"collector", "config", "kvm", "cpuid"},
    "report": {"collector", "config", "kvm", "cpuid"},
    "collector": {"config", "kvm", "cpuid"},
    "web": {"config"},
    "config": {"kvm", "cpuid"},
    "kvm": {"cpuid.registers", "cpuid.cpulist"},
    "cpuid": set(),
}
"""What a room imports of other rooms: whole rooms, or single modules."""

EVERYBODY = {"kvm_exporter", "errors", "_revision"}
"""What any room may import: the package's version, its errors, the revision that was built."""

PURE = {"kvm", "cpuid.registers", "cpuid.cpulist", "cpuid.dump", "collector.in_use"}
"""Rooms and modules that run on any machine and do no I/O, not even through what they import."""

EFFECTS = {"asyncio", "os", "prometheus_client", "socket", "ssl", "subprocess", "systemd", "threading", "yaml"}

ONLY_IMPORTER = {
    "kvm_exporter._cpuid": {"cpuid.machine"},
    "kvm_exporter.cpuid.machine": {"app.commands"},
    "systemd": {"app.systemd"},
    "h11": {"web.http"},
    "cffi": {"_cpuid_build"},
    "yaml": {"config.schema"},
    "bcrypt": {"web.credentials"},
}
"""What only these modules import."""


def room_of(module: str) -> str:
    """The folder of a module; of one at the package's top, the module itself."""
    return module.partition(".")[0]


def imports_of(path: Path, *, run: bool = True) -> set[str]:
    """Every module that a file imports, anywhere in it, by its full name; of ``from a import b``, also ``a.b``.

    With ``run``, without what is imported under TYPE_CHECKING alone.
    """
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif run and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        todo += ast.iter_child_nodes(node)
    return found


def ours(path: Path, *, run: bool = True) -> set[str]:
    """The modules of the package that a file imports, without the package's name."""
    return {name.removeprefix("kvm_exporter.") for name in imports_of(path, run=run)} & MODULES.keys()


def test_every_room_is_known() -> None:
    """A new folder has to say what it imports."""
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == ALLOWED.keys()


@pytest.mark.parametrize("module", sorted(module for module in MODULES if room_of(module) in ALLOWED))
def test_imports_go_down(module: str) -> None:
    """A room imports the rooms that ALLOWED names, its own modules, and what everybody may."""
    room = room_of(module)
    for imported in ours(MODULES[module], run=False):
        allowed = ALLOWED[room] | EVERYBODY | {room}
        assert room_of(imported) in allowed or imported in allowed, f"{module} imports {imported}"


def test_no_cycles() -> None:
    """Modules can be put in a row in which each imports only earlier ones."""
    left = {name: ours(path) - {name} for name, path in MODULES.items()}
    while left:
        free = {name for name, needs in left.items() if not needs & left.keys()}
        assert free, f"these import each other: {sorted(left)}"
        for name in free:
            del left[name]


@pytest.mark.parametrize("module", sorted(module for module in MODULES if {module, room_of(module)} & PURE))
def test_pure_modules_have_no_effects(module: str) -> None:
    """They import no library that does I/O, not even through others of ours."""
    seen, todo = set[str](), {module}
    while todo:
        name = todo.pop()
        seen.add(name)
        assert not {root.partition(".")[0] for root in imports_of(MODULES[name])} & EFFECTS, name
        todo |= ours(MODULES[name]) - seen


@pytest.mark.parametrize("target", sorted(ONLY_IMPORTER))
def test_one_importer_for_each_outside_thing(target: str) -> None:
    """One module imports the extension, one systemd, one h11, one yaml, one bcrypt."""
    importers = {
        name
        for name, path in MODULES.items()
        if any(found == target or found.startswith(target + ".") for found in imports_of(path, run=False))
    }
    assert importers == ONLY_IMPORTER[target]


def test_prometheus_client_is_for_metrics() -> None:
    """Families and text: only metrics/ makes them."""
    importers = {
        room_of(name)
        for name, path in MODULES.items()
        if any(found.partition(".")[0] == "prometheus_client" for found in imports_of(path, run=False))
    }
    assert importers == {"metrics"}


TOOLS = {"tests.support.tools", "tests.support.guests", "tests.support.packaging", "tests.support.monitoring"}
"""What finds programs, devices and systems, or skips a test where there is none."""


def test_tests_of_rooms_need_no_tools() -> None:
    """They run wherever the exporter does, and none of them is skipped: what needs more is in another folder."""
    tests = PACKAGE.parent / "tests"
    for path in (path for room in (*ALLOWED, "support/rooms") for path in (tests / room).rglob("*.py")):
        assert not {found for found in imports_of(path) for tool in TOOLS if (found + ".").startswith(f"{tool}.")}, path


def test_the_package_imports_nothing_of_the_lab() -> None:
    """What is installed needs neither lab/ nor the tests."""
    for name, path in MODULES.items():
        roots = {found.partition(".")[0] for found in imports_of(path, run=False)}
        assert not roots & {"lab", "demo", "tests", "benchmarks"}, name


def test_the_lab_imports_none_of_its_users() -> None:
    """The demonstration, the tests and the benchmarks import lab/, which imports none of them."""
    for path in (PACKAGE.parent / "lab").rglob("*.py"):
        roots = {found.partition(".")[0] for found in imports_of(path, run=False)}
        assert not roots & {"demo", "tests", "benchmarks"}, path
