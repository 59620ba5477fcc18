"""The Debian package of the rules as it is built: what is in it, what it needs, and what it shares with the exporter's.

That it works without an exporter is shown in a booted system.
"""

from tests.support.packaging.debian import NAME, RULES, DebianPackage
from tests.support.tree import tracked

SHARE = f"usr/share/{NAME}"


def test_it_needs_python_and_no_exporter(rules_package: DebianPackage) -> None:
    """On every architecture. An older exporter's package had its files, and has to be upgraded with it."""
    assert rules_package.field("Architecture") == "all"
    depends = {dependency.partition(" ")[0] for dependency in rules_package.field("Depends").split(", ")}
    assert depends == {"python3", "python3-yaml", "python3:any"}
    assert rules_package.field("Recommends") == ""
    assert rules_package.field("Breaks") == rules_package.field("Replaces") == f"{NAME} (<< 0.1.0-2~)"


def test_what_is_in_it(rules_package: DebianPackage) -> None:
    """Everything of dashboards/, the runbooks, what it imports of the exporter, and the documents."""
    root = rules_package.root
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() or path.is_symlink()}
    imported = ("__init__.py", "cpuid/__init__.py", "cpuid/cpulist.py", "cpuid/registers.py")
    assert files == {
        "usr/bin/kvm-exporter-rules",
        "usr/share/man/man1/kvm-exporter-rules.1.gz",
        *(f"{SHARE}/{name.removeprefix('dashboards/')}" for name in tracked() if name.startswith("dashboards/")),
        f"{SHARE}/runbooks.md",
        *(f"{SHARE}/kvm_exporter/{name}" for name in imported),
        *(f"{SHARE}/{name}" for name in tracked() if name.startswith("kvm_exporter/kvm/")),
        *(
            f"usr/share/doc/{RULES}/{name}"
            for name in tracked()
            if name.startswith("docs/") or (name.endswith(".md") and "/" not in name)
        ),
        *(f"usr/share/doc/{RULES}/{name}" for name in ("changelog.gz", "changelog.Debian.gz", "copyright")),
        f"usr/share/doc/{RULES}/dashboards",
        f"usr/share/lintian/overrides/{RULES}",
        f"usr/share/python3/runtime.d/{RULES}.rtupdate",
    }


def test_both_packages_have_the_same_table_of_features(
    rules_package: DebianPackage, debian_package: DebianPackage
) -> None:
    """What the rules say of a bit is what the exporter says: the modules are the same, byte for byte."""
    private = rules_package.root / SHARE
    modules = {path.relative_to(private) for path in (private / "kvm_exporter").rglob("*.py")}
    assert modules
    for module in modules:
        installed = debian_package.root / "usr/lib/python3/dist-packages" / module
        assert (private / module).read_bytes() == installed.read_bytes(), module
