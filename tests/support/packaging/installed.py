"""The Debian package in a booted system: installed by apt, as people do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.packaging.container import Container, container
from tests.support.packaging.debian import NAME

PACKAGES = "/packages"
"""Where a system has the packages that it may install."""

DEFAULTS = f"/etc/default/{NAME}"


@contextmanager
def system_with(suite: str, packages: Path) -> Iterator[Container]:
    """A system of a suite that has a folder of packages within reach."""
    with container(suite, f"--bind-ro={packages}:{PACKAGES}") as booted:
        yield booted


def apt(system: Container, *words: str) -> str:
    """Run apt-get without questions, and return what it prints."""
    return system.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-o", "APT::Sandbox::User=root", *words)


def install(system: Container, package: Path) -> None:
    """Install one of the packages, by its path in their folder."""
    apt(system, "install", f"{PACKAGES}/{package}")


@contextmanager
def arguments(system: Container, *flags: str) -> Iterator[None]:
    """Flags for the exporter's next start, as administrators give them."""
    file = system.root / DEFAULTS.lstrip("/")
    before = file.read_text()
    file.write_text(f'ARGS="{" ".join(flags)}"\n')
    try:
        yield
    finally:
        file.write_text(before)
