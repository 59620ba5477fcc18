"""The files by which systemd, man and the shells find an exporter that pip installed in a virtual environment.

The units in the folder unit_files are those of the Debian package: they start /usr/bin/kvm-exporter, and their sandbox
allows executing only what they list. Here, they start and list the program of the virtual environment, and its Python.

Source: systemd.unit(5) and systemd.exec(5); file-hierarchy(7); the search paths of the catalog in systemd's catalog.c.
"""

import argparse
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvm_exporter.app.completion import bash, zsh
from kvm_exporter.app.introspection import commands
from kvm_exporter.app.manual import page
from kvm_exporter.config.files import write_atomically
from kvm_exporter.errors import OutputError, UsageError

NAME = "prometheus-kvm-exporter"

NEXT = f"""
To start the service, now and at each boot:

    journalctl --update-catalog
    systemctl daemon-reload
    systemctl enable --now {NAME}.service
"""
"""What an administrator does once the files are written."""

ADMINISTRATORS = Path("/etc/systemd/system")
"""Units in this folder take precedence over those below /usr and /usr/local."""

HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - no file is made there
"""What the units hide from the service: ProtectHome= and InaccessiblePaths=."""

_UNIT_FILES = Path(__file__).with_name("unit_files")

_UNITS = "lib/systemd/system"
_FOLDERS = {
    ".service": _UNITS,
    ".socket": _UNITS,
    ".timer": _UNITS,
    ".catalog": "lib/systemd/catalog",
    ".conf": f"share/{NAME}/systemd",
}
"""Where the files of unit_files go below the prefix, by their suffixes."""


@dataclass(frozen=True, slots=True)
class Installation:
    """An exporter in a virtual environment."""

    folder: Path
    """The virtual environment."""
    python: Path
    """The interpreter, with all links resolved."""
    base: Path
    """The prefix of the Python that the environment was created with, such as /usr."""

    @property
    def program(self) -> Path:
        """The program that the units start."""
        return self.folder / "bin/kvm-exporter"

    def in_unit(self, text: str, environment: Path) -> str:
        """Return a unit that starts this program, given the unit of the Debian package and an environment file."""
        libraries = "" if self.base == Path("/usr") else f" -{self.base}/lib -{self.base}/lib64"
        return (
            text.replace("=/usr/bin/kvm-exporter /usr/bin/python3 ", f"={self.folder} {self.python}{libraries} ")
            .replace("/usr/bin/kvm-exporter", str(self.program))
            .replace(f"/etc/default/{NAME}", str(environment))
        )


def this_installation(root: Path) -> Installation:
    """Return the installation that runs this; one below ``root`` is named as it is seen from there.

    Raises UsageError if it is not in a virtual environment, or where the service could not read it.
    """
    if sys.prefix == sys.base_prefix:
        raise UsageError(
            f"{sys.prefix} is not a virtual environment; install the exporter with pip in one, such as "
            "/opt/kvm-exporter, and run its bin/kvm-exporter units. The Debian package has units of its own"
        )
    found = Installation(
        folder=_seen_from(root, Path(sys.prefix)),
        python=_seen_from(root, Path(sys.executable).resolve()),
        base=_seen_from(root, Path(sys.base_prefix)),
    )
    for path in (found.folder, found.python):
        _check_place(path)
    _check_program(Path(sys.prefix, "bin/kvm-exporter"), root)
    return found


def _check_place(path: Path) -> None:
    """Raise UsageError if a unit cannot name a path, or the service not see it."""
    if any(path.is_relative_to(hidden) for hidden in HIDDEN):
        raise UsageError(
            f"{path} is hidden from the service, as is all of {', '.join(HIDDEN)}; create the virtual environment "
            "elsewhere, such as in /opt/kvm-exporter, with a Python that is elsewhere, too"
        )
    if not re.fullmatch(r"[\w/.+-]+", str(path), re.ASCII):
        raise UsageError(f"{path} has a character that units cannot have; create the virtual environment elsewhere")


def _check_program(program: Path, root: Path) -> None:
    """Raise UsageError if the user of the service cannot reach the program, or the sandbox would not execute it."""
    # pip writes a script for the shell where the path of Python is too long for the first line.
    if not program.is_file() or not program.read_bytes().startswith(f"#!{program.parent}/".encode()):
        raise UsageError(
            f"{program} does not begin with #! and the path of its Python, and the sandbox allows no shell; create the "
            "virtual environment at a shorter path"
        )
    for folder in program.parents:
        if folder == root:
            break
        if not folder.stat().st_mode & stat.S_IXOTH:
            mend = f"-R go+rX {sys.prefix}" if folder.is_relative_to(sys.prefix) else f"go+x {folder}"
            raise UsageError(f"{folder} is closed to the user of the service; run chmod {mend}")


def environment_file(etc: Path) -> Path:
    """Return where a system has the daemon's flags, given its /etc: in /etc/sysconfig if that exists."""
    return Path("/etc", "sysconfig" if (etc / "sysconfig").is_dir() else "default", NAME)


def files(
    installation: Installation, prefix: Path, environment: Path, program: argparse.ArgumentParser
) -> Mapping[Path, str | Path]:
    """Return the content of each file, or the target of a link, by its path.

    ``environment`` is the file with the daemon's flags; all others are below ``prefix``. ``program`` is the parser that
    the man page and the completions are made from.
    """
    known = commands(program)
    found: dict[Path, str | Path] = {
        prefix / "bin/kvm-exporter": installation.program,
        prefix / "share/man/man1/kvm-exporter.1": page(known),
        prefix / "share/bash-completion/completions/kvm-exporter": bash(known),
        prefix / "share/zsh/site-functions/_kvm-exporter": zsh(known),
    }
    for source in sorted(_UNIT_FILES.iterdir()):
        if folder := _FOLDERS.get(source.suffix):
            text = source.read_text(encoding="utf-8")
            found[prefix / folder / source.name] = installation.in_unit(text, environment)
    return found | {environment: (_UNIT_FILES / f"{NAME}.default").read_text(encoding="utf-8")}


def install(root: Path, contents: Mapping[Path, str | Path], environment: Path) -> Iterator[str]:
    """Write files and links below a root directory. Yields a line for each, and for each unit that takes precedence.

    An environment file that exists is kept. Raises UsageError if a link would replace a file, and OutputError.
    """
    for path, content in contents.items():
        target = root / path.relative_to("/")
        with _written(target):
            if isinstance(content, Path):
                if target.exists() and not target.is_symlink():
                    raise UsageError(f"{target} exists and is not a link; remove what installed it")
                target.unlink(missing_ok=True)
                target.symlink_to(content)
            elif path != environment or not target.exists():
                write_atomically(target, content.encode())
            else:
                yield f"kept {target}, with your flags"
                continue
        yield f"wrote {target}"
        hiding = root / ADMINISTRATORS.relative_to("/") / path.name
        if path.parent.match(_UNITS) and hiding.exists():
            yield f"but {hiding} takes precedence: remove it"


def _seen_from(root: Path, path: Path) -> Path:
    return Path("/", path.relative_to(root)) if path.is_relative_to(root) else path


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Create the directory of a file that is written in the block. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written: {error.strerror}; run this as root, or write below another directory with "
            "--root"
        ) from error
