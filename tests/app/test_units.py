"""kvm_exporter.app.units: which files the command writes, what the units in them start, and what it refuses."""

import sys
from pathlib import Path

import pytest

from kvm_exporter.app.cli import build_parser, main
from kvm_exporter.app.units import NAME, Installation, environment_file, files
from lab.tree import UNITS
from tests.support.rooms.staged import PYTHON, VENV, stage

ENVIRONMENT = f"/etc/default/{NAME}"
INSTALLED = Installation(Path("/opt/kvm-exporter"), Path("/usr/bin/python3.12"), Path("/usr"))

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root directory with a virtual environment."""
    stage(tmp_path, monkeypatch)
    return tmp_path


def changed(unit: str, installation: Installation, environment: str = ENVIRONMENT) -> dict[str, str]:
    """The settings of a service that differ from those of the Debian package, with their values."""
    found = files(installation, Path("/usr/local"), Path(environment), build_parser())
    lines = str(found[Path("/usr/local/lib/systemd/system", unit)]).splitlines()
    packaged = (UNITS / unit).read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(packaged)
    return dict(line.split("=", 1) for line, before in zip(lines, packaged, strict=True) if line != before)


@pytest.mark.parametrize("prefix", ["/usr/local", "/usr"])
def test_what_is_written(root: Path, prefix: str, capsys: Captured) -> None:
    """Every shipped file, the man page, the completions and a link; each is named, and seen from the root directory."""
    before = {path for path in root.rglob("*") if not path.is_dir()}
    environment = environment_file(Path("/etc"))
    assert main(["units", f"--root={root}", f"--prefix={prefix}"]) == 0
    written = {path for path in root.rglob("*") if not path.is_dir()} - before
    places = {".catalog": "lib/systemd/catalog", ".conf": f"share/{NAME}/systemd"}
    shipped = [path.name for path in UNITS.iterdir() if path.suffix != ".default"]
    assert {f"/{path.relative_to(root)}" for path in written} == {
        *(f"{prefix}/{places.get(Path(name).suffix, 'lib/systemd/system')}/{name}" for name in shipped),
        f"{prefix}/share/man/man1/kvm-exporter.1",
        f"{prefix}/share/bash-completion/completions/kvm-exporter",
        f"{prefix}/share/zsh/site-functions/_kvm-exporter",
        f"{prefix}/bin/kvm-exporter",
        str(environment),
    }
    link = root / prefix.lstrip("/") / "bin/kvm-exporter"
    assert str(link.readlink()) == f"{VENV}/bin/kvm-exporter"
    out = capsys.readouterr().out
    assert set(out.splitlines()) == {f"wrote {path}" for path in written}


def test_what_the_services_start() -> None:
    """The program of the virtual environment, whose Python the sandbox allows; no other line differs."""
    program, paths = f"{VENV}/bin/kvm-exporter", f"{VENV} {PYTHON} /usr/lib -/usr/lib64"
    assert changed(f"{NAME}.service", INSTALLED) == {
        "ExecStart": f"{program} serve $WEB_CONFIG $ARGS",
        "ExecPaths": paths,
    }
    assert changed(f"{NAME}-socket.service", INSTALLED) == {
        "ExecStart": f"{program} serve --web.systemd-socket $WEB_CONFIG $ARGS",
        "ExecPaths": paths,
    }
    assert changed(f"{NAME}-textfile.service", INSTALLED) == {
        "ExecStart": f"{program} textfile $TEXTFILE",
        "ExecPaths": paths,
    }


def test_a_python_with_libraries_of_its_own() -> None:
    """They can be loaded, too."""
    installation = Installation(Path("/srv/venv"), Path("/opt/python/bin/python3.13"), Path("/opt/python"))
    paths = "/srv/venv /opt/python/bin/python3.13 -/opt/python/lib -/opt/python/lib64 /usr/lib -/usr/lib64"
    assert changed(f"{NAME}.service", installation)["ExecPaths"] == paths


@pytest.mark.parametrize(("folder", "expected"), [("sysconfig", "/etc/sysconfig"), ("default", "/etc/default")])
def test_the_environment_file_is_where_the_system_has_them(tmp_path: Path, folder: str, expected: str) -> None:
    """On RHEL-like systems and SUSE in /etc/sysconfig; the services read it there."""
    (tmp_path / folder).mkdir()
    found = environment_file(tmp_path)
    assert str(found) == f"{expected}/{NAME}"
    for unit in (f"{NAME}.service", f"{NAME}-socket.service"):
        assert changed(unit, INSTALLED, str(found)).get("EnvironmentFile", f"-{ENVIRONMENT}") == f"-{found}"


def test_flags_are_kept(root: Path, capsys: Captured) -> None:
    """The second time, the environment file stays as it was edited, and everything else is as it should be."""
    command = ["units", f"--root={root}"]
    main(command)
    unit = root / f"usr/local/lib/systemd/system/{NAME}.service"
    first = unit.read_text()
    flags = root / environment_file(Path("/etc")).relative_to("/")
    flags.write_text('ARGS="--log.level=warn"\n')
    unit.write_text("")
    capsys.readouterr()
    assert main(command) == 0
    assert (flags.read_text(), unit.read_text()) == ('ARGS="--log.level=warn"\n', first)
    assert f"kept {flags}, with your flags\n" in capsys.readouterr().out


def test_a_unit_that_takes_precedence(root: Path, capsys: Captured) -> None:
    """What the administrator copied to /etc would be started instead: it is named."""
    copied = root / f"etc/systemd/system/{NAME}.service"
    copied.parent.mkdir(parents=True)
    copied.touch()
    assert main(["units", f"--root={root}"]) == 0
    assert f"but {copied} takes precedence: remove it\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("venv", "base", "message"),
    [
        ("/home/me/venv", "/usr", "/home/me/venv is hidden from the service"),
        ("/var/tmp/venv", "/usr", "/var/tmp/venv is hidden from the service"),  # noqa: S108 - no file is made there
        (VENV, "/root/.pyenv/3.12", "/root/.pyenv/3.12/bin/python3.12 is hidden from the service"),
        ("/opt/kvm exporter", "/usr", "/opt/kvm exporter has a character that units cannot have"),
        ("/opt/100%", "/usr", "/opt/100% has a character that units cannot have"),
    ],
)
def test_where_the_service_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, venv: str, base: str, message: str
) -> None:
    """Nothing is written for a virtual environment, or a Python, that the units could not name or reach."""
    stage(tmp_path, monkeypatch, venv, base)
    assert main(["units", f"--root={tmp_path}"]) == 2
    assert capsys.readouterr().err.startswith(f"kvm-exporter: {message}")
    assert not (tmp_path / "usr/local").exists()


def test_a_folder_that_is_closed_to_others(root: Path, capsys: Captured) -> None:
    """As by a strict umask: the message has the command that opens it, for the virtual environment with all in it."""
    for folder, command in ((f"{root}/opt", f"go+x {root}/opt"), (f"{root}{VENV}", f"-R go+rX {root}{VENV}")):
        Path(folder).chmod(0o750)
        assert main(["units", f"--root={root}"]) == 2
        assert capsys.readouterr().err == (
            f"kvm-exporter: {folder} is closed to the user of the service; run chmod {command}\n"
        )
        Path(folder).chmod(0o755)


def test_a_program_that_a_shell_starts(root: Path, capsys: Captured) -> None:
    """As pip writes it where the path of the virtual environment is too long for the first line of a script."""
    program = Path(f"{root}{VENV}/bin/kvm-exporter")
    program.write_text(f"#!/bin/sh\n'''exec' {root}{VENV}/bin/python3 \"$0\" \"$@\"\n")
    assert main(["units", f"--root={root}"]) == 2
    assert capsys.readouterr().err.startswith(
        f"kvm-exporter: {program} does not begin with #! and the path of its Python, "
    )


def test_no_virtual_environment(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """The Debian package has units, and files that pip put among those of the system are not for a service."""
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert main(["units"]) == 2
    assert " is not a virtual environment; install the exporter with pip in one, " in capsys.readouterr().err


def test_a_program_is_not_replaced(root: Path, capsys: Captured) -> None:
    """A link is, but a file at its place is another installation."""
    program = root / "usr/local/bin/kvm-exporter"
    program.parent.mkdir(parents=True)
    program.touch()
    assert main(["units", f"--root={root}"]) == 2
    assert capsys.readouterr().err == (f"kvm-exporter: {program} exists and is not a link; remove what installed it\n")


def test_a_file_that_cannot_be_written(root: Path, capsys: Captured) -> None:
    """It is named, with the reason and what to do."""
    (root / "usr/local").touch()
    assert main(["units", f"--root={root}"]) == 1
    link = root / "usr/local/bin/kvm-exporter"
    assert capsys.readouterr().err == (
        f"kvm-exporter: {link}: cannot be written: Not a directory; run this as root, or write below another directory "
        "with --root\n"
    )
