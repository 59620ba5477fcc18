"""The import rules of the package, checked on the source: imports go down the rooms; one importer for each library."""

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
"""What each room may import from other rooms: whole rooms, or single modules."""

EVERYBODY = {"kvm_exporter", "errors", "_revision"}
"""What every room may import: the package's version, its errors, the revision that was built."""

PURE = {
    "kvm",
    "cpuid.registers",
    "cpuid.cpulist",
    "cpuid.rows",
    "cpuid.other_formats",
    "cpuid.dump",
    "collector.conditions",
    "collector.in_use",
}
"""Rooms and modules without I/O, including everything that they import."""

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
"""The only modules that may import each of these."""


def room_of(module: str) -> str:
    """Return the folder of a module, or the module itself if it is at the top of the package."""
    return module.partition(".")[0]


def imports_of(path: Path, *, run: bool = True) -> set[str]:
    """Return the full name of every module that a file imports anywhere; for ``from a import b``, also ``a.b``.

    With ``run``, imports under TYPE_CHECKING are left out.
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
    """Return the modules of the package that a file imports, without the package's name."""
    return {name.removeprefix("kvm_exporter.") for name in imports_of(path, run=run)} & MODULES.keys()


def test_every_room_is_known() -> None:
    """Every folder of the package has an entry in ALLOWED."""
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == ALLOWED.keys()


@pytest.mark.parametrize("module", sorted(module for module in MODULES if room_of(module) in ALLOWED))
def test_imports_go_down(module: str) -> None:
    """A module imports only its own room, what ALLOWED lists for the room, and EVERYBODY."""
    room = room_of(module)
    for imported in ours(MODULES[module], run=False):
        allowed = ALLOWED[room] | EVERYBODY | {room}
        assert room_of(imported) in allowed or imported in allowed, f"{module} imports {imported}"


def test_no_cycles() -> None:
    """The modules can be ordered so that each imports only earlier ones."""
    left = {name: ours(path) - {name} for name, path in MODULES.items()}
    while left:
        free = {name for name, needs in left.items() if not needs & left.keys()}
        assert free, f"these import each other: {sorted(left)}"
        for name in free:
            del left[name]


@pytest.mark.parametrize("module", sorted(module for module in MODULES if {module, room_of(module)} & PURE))
def test_pure_modules_have_no_effects(module: str) -> None:
    """Pure modules import no library that does I/O, neither directly nor through other modules of the package."""
    seen, todo = set[str](), {module}
    while todo:
        name = todo.pop()
        seen.add(name)
        assert not {root.partition(".")[0] for root in imports_of(MODULES[name])} & EFFECTS, name
        todo |= ours(MODULES[name]) - seen


@pytest.mark.parametrize("target", sorted(ONLY_IMPORTER))
def test_one_importer_for_each_outside_thing(target: str) -> None:
    """The extension and each outside library are imported by exactly the modules that ONLY_IMPORTER lists."""
    importers = {
        name
        for name, path in MODULES.items()
        if any(found == target or found.startswith(target + ".") for found in imports_of(path, run=False))
    }
    assert importers == ONLY_IMPORTER[target]


def test_prometheus_client_is_for_metrics() -> None:
    """prometheus_client is imported in metrics/ only."""
    importers = {
        room_of(name)
        for name, path in MODULES.items()
        if any(found.partition(".")[0] == "prometheus_client" for found in imports_of(path, run=False))
    }
    assert importers == {"metrics"}


TOOLS = {"tests.support.tools", "tests.support.guests", "tests.support.packaging", "tests.support.monitoring"}
"""What finds programs, devices and systems, or skips a test that lacks one."""


def test_tests_of_rooms_need_no_tools() -> None:
    """They run wherever the exporter does, and none of them is skipped: what needs more is in another folder."""
    tests = PACKAGE.parent / "tests"
    for path in (path for room in (*ALLOWED, "support/rooms") for path in (tests / room).rglob("*.py")):
        assert not {found for found in imports_of(path) for tool in TOOLS if (found + ".").startswith(f"{tool}.")}, path


def test_the_package_imports_nothing_of_the_lab() -> None:
    """The package imports neither lab/ nor the demonstration nor the tests nor the benchmarks."""
    for name, path in MODULES.items():
        roots = {found.partition(".")[0] for found in imports_of(path, run=False)}
        assert not roots & {"lab", "demo", "tests", "benchmarks"}, name


def test_the_rules_import_what_their_package_carries() -> None:
    """The generator imports of the exporter only what KVM's leaves mean: the room kvm, which is pure."""
    for path in (PACKAGE.parent / "dashboards").rglob("*.py"):
        assert {room_of(module) for module in ours(path)} <= {"kvm"}, path


def test_the_lab_imports_none_of_its_users() -> None:
    """lab/ imports neither the demonstration nor the tests nor the benchmarks."""
    for path in (PACKAGE.parent / "lab").rglob("*.py"):
        roots = {found.partition(".")[0] for found in imports_of(path, run=False)}
        assert not roots & {"demo", "tests", "benchmarks"}, path
