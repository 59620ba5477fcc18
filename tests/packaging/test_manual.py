"""The man pages and the completions that the Debian packages have, asked of the programs that read them."""

import re
import sys
from pathlib import Path

import pytest

from lab.tree import DASHBOARDS, REPOSITORY
from tests.support.packaging.debian import PATH, DebianPackage, run
from tests.support.system.terminal import terminal
from tests.support.tools import missing, program

FLAG = re.compile(r"--[a-z][a-z0-9.-]*[a-z0-9]")

BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")

COMPLETE = r"""
cd "$0"
source "$1"
line=$2
shift 2
_completion_loader kvm-exporter
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE=$line COMP_POINT=${#line}
_kvm_exporter
printf '%s\n' "${COMPREPLY[@]}"
"""
"""What bash does at a tab: it sets what is on the line, and calls the function that the program's name loads."""


@pytest.fixture(scope="module")
def manual(debian_package: DebianPackage) -> Path:
    """The page."""
    return debian_package.root / "usr/share/man/man1/kvm-exporter.1.gz"


@pytest.fixture(scope="module")
def rules_manual(rules_package: DebianPackage) -> Path:
    """The page of the command that writes the rules."""
    return rules_package.root / "usr/share/man/man1/kvm-exporter-rules.1.gz"


def read(manual: Path) -> str:
    """A page as a reader sees it, with hyphens that can be searched for."""
    return re.sub(r".\x08", "", run(program("man"), "--local-file", manual, MANWIDTH="200"))


def said_by_help() -> dict[str, set[str]]:
    """Each command's flags, and under no name those of the program itself, as their own help has them."""
    main = run(sys.executable, "-m", "kvm_exporter", "--help")
    commands = re.findall(r"^    (\w+) ", main, re.MULTILINE)
    helps = {command: run(sys.executable, "-m", "kvm_exporter", command, "--help") for command in commands}
    return {name: set(FLAG.findall(text)) for name, text in {"": main, **helps}.items()}


def test_the_manual_has_every_command_and_flag(manual: Path) -> None:
    """What the help of any command names."""
    page = read(manual)
    helps = said_by_help()
    assert set(helps) >= {"", "serve", "show", "decode", "compare", "textfile"}
    for command, flags in helps.items():
        assert re.search(rf"^       kvm-exporter \[?{command}\b", page, re.MULTILINE)
        assert flags - set(FLAG.findall(page)) == set()
    assert "kvm-exporter compare [--format=table|json] [--strict] A B\n" in page
    titles = re.findall(r"^[A-Z][A-Z ]+$", page, re.MULTILINE)
    assert [*titles[:3], titles[-1]] == ["NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"]
    assert {"EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"} < set(titles)


def test_the_manual_of_the_rules_has_every_flag(rules_manual: Path) -> None:
    """With its default: what the help of the program says."""
    page = read(rules_manual)
    flags = set(FLAG.findall(run(sys.executable, DASHBOARDS / "generate.py", "--help")))
    assert flags >= {"--output", "--cohort", "--operator"}
    assert flags - set(FLAG.findall(page)) == set()
    assert "(default: kvm-shard-)" in page


def test_the_manuals_are_well_formed(manual: Path, rules_manual: Path) -> None:
    """Neither groff nor mandoc finds anything to warn of."""
    groff = f'{program("man")} --warnings --local-file --encoding=UTF-8 --troff-device=utf8 --ditroff "$1" >/dev/null'
    for page in (manual, rules_manual):
        assert run("sh", "-c", groff, "-", page) == ""
        assert run(program("mandoc"), "-T", "lint", "-W", "warning", page) == ""


def in_bash(package: DebianPackage, *words: str) -> set[str]:
    """What bash offers for the last word of a line that it took apart so, in this repository's folder."""
    if not BASH_COMPLETION.exists():
        missing("bash-completion")
    line = " ".join(words).replace(" = ", "=")
    share = str(package.root / "usr/share")
    return set(run("bash", "-c", COMPLETE, REPOSITORY, BASH_COMPLETION, line, *words, XDG_DATA_DIRS=share).split())


def test_bash_offers_commands_and_the_daemons_flags(debian_package: DebianPackage) -> None:
    """Where no command is given the daemon is meant; after one, its own flags are offered. A = stands for a value."""
    helps = said_by_help()
    assert in_bash(debian_package, "kvm-exporter", "") == set(helps) - {""}
    assert in_bash(debian_package, "kvm-exporter", "com") == {"compare"}
    daemon = in_bash(debian_package, "kvm-exporter", "--")
    assert {flag.rstrip("=") for flag in daemon} == helps["serve"] | helps[""]
    assert {"--web.config.file=", "--web.config.check"} < daemon
    assert in_bash(debian_package, "kvm-exporter", "check", "--") == {"--baseline=", "--dump=", "--help"}
    for command, flags in helps.items():
        if command:
            offered = in_bash(debian_package, "kvm-exporter", command, "--")
            assert {flag.rstrip("=") for flag in offered} == flags


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["--log.level", "=", ""], {"debug", "info", "warn", "error"}),
        (["--log.level", "=", "d"], {"debug"}),
        (["--log.level", "d"], {"debug"}),
        (["--log.level", "=", "x"], set()),
        (["serve", "--sample.isolated", "=", "n"], {"never"}),
        (["decode", "--format", "=", "p"], {"prometheus"}),
        (["decode", "lab/dumps/qemu-t"], {"lab/dumps/qemu-tcg.txt"}),
        (["compare", "x", "lab/dumps/qemu-t"], {"lab/dumps/qemu-tcg.txt"}),
        (["check", "--dump", "=", "lab/dumps/qemu-t"], {"lab/dumps/qemu-tcg.txt"}),
        (["--web.config.file", "=", "pypro"], {"pyproject.toml"}),
        (["--web.telemetry-path", "=", "pypro"], set()),
        (["show", "pypro"], set()),
    ],
)
def test_bash_offers_values(debian_package: DebianPackage, words: list[str], offered: set[str]) -> None:
    """Choices and files, after a space and after =; nothing where it knows nothing."""
    assert in_bash(debian_package, "kvm-exporter", *words) == offered


def test_zsh_completes(debian_package: DebianPackage) -> None:
    """At a real terminal: a command, the daemon's flags, choices after =, files."""
    functions = debian_package.root / "usr/share/zsh/vendor-completions"
    environment = {"TERM": "dumb", "PATH": PATH, "HOME": "/nonexistent"}
    with terminal(program("zsh"), "-f", "-i", environment=environment) as shell:
        shell.press(
            f"PS1='ready''> '; cd {REPOSITORY}; fpath=({functions} $fpath); autoload -Uz compinit; compinit -uD\n"
        )
        shell.until("ready> ")
        for typed, completed in (
            ("kvm-exporter dec\t", "kvm-exporter decode "),
            ("kvm-exporter --web.max\t", "kvm-exporter --web.max-requests="),
            ("kvm-exporter --log.level=d\t", "kvm-exporter --log.level=debug"),
            ("kvm-exporter decode --format=p\t", "kvm-exporter decode --format=prometheus"),
            ("kvm-exporter check --baseline=pypro\t", "kvm-exporter check --baseline=pyproject.toml"),
            ("kvm-exporter compare README.md pypro\t", "kvm-exporter compare README.md pyproject.toml"),
        ):
            shell.press(typed)
            shell.until(re.escape(completed))
            shell.press("\x15")
