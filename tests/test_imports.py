"""Data flows one way: who may import what, read from the source itself."""

import ast
from pathlib import Path

import pytest

import kvm_exporter

PACKAGE = Path(kvm_exporter.__file__).parent
MODULES = {path.stem: path for path in PACKAGE.glob("*.py")}

PURE = {"registers", "features", "leaves", "sample", "drift", "dump", "sweep", "record", "web_config"}
"""Reading's types, decoding, comparing, and the web configuration's text: they work on any machine, and know neither C
nor Prometheus nor systemd nor OpenSSL."""

ONLY_IMPORTER = {
    "kvm_exporter._cpuid": {"cpuid"},
    "kvm_exporter.cpuid.machine": {"commands"},
    "systemd": {"service"},
    "h11": {"http1"},
    "cffi": {"_cpuid_build"},
    "yaml": {"yaml_file"},
    "bcrypt": {"credentials"},
    "demo": set(),
    "ssl": {"gate", "guard", "server", "tls", "web_config_file"},
}
"""What only these modules may import."""


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, by its full name; of ``from a import b``, also ``a.b``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def ours(path: Path) -> set[str]:
    """The modules of the package that a file imports, by their short names."""
    return {name.split(".")[1] for name in imports_of(path) if name.startswith("kvm_exporter.")} & MODULES.keys()


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_know_no_effects(module: str) -> None:
    """They import neither the extension nor prometheus_client nor systemd nor ssl, not even through others."""
    seen, todo = set[str](), {module}
    while todo:
        name = todo.pop()
        seen.add(name)
        assert not {root.split(".")[0] for root in imports_of(MODULES[name])} & {
            "systemd",
            "prometheus_client",
            "h11",
            "asyncio",
            "ssl",
        }
        todo |= ours(MODULES[name]) - seen
    assert "cpuid" not in seen


@pytest.mark.parametrize("target", sorted(ONLY_IMPORTER))
def test_only_one_room_for_each_outside_thing(target: str) -> None:
    """One module imports the extension, one systemd, one h11, one yaml."""
    importers = {
        name
        for name, path in MODULES.items()
        if any(found == target or found.startswith(target + ".") for found in imports_of(path))
    }
    assert importers == ONLY_IMPORTER[target]


def test_no_cycles() -> None:
    """Modules can be put in a row in which each imports only earlier ones."""
    left = {name: ours(path) - {name} for name, path in MODULES.items()}
    while left:
        free = {name for name, needs in left.items() if not needs & left.keys()}
        assert free, f"these import each other: {sorted(left)}"
        for name in free:
            del left[name]


def test_modules_are_small() -> None:
    """A module that passes 200 lines is two."""
    long = {name: lines for name, path in MODULES.items() if (lines := len(path.read_text().splitlines())) > 200}
    assert long == {}
