"""The command line: subcommands and exit codes. Messages for people go to stderr, data to stdout."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from kvm_exporter import __version__
from kvm_exporter._revision import REVISION
from kvm_exporter.app import commands
from kvm_exporter.app.commands import OUTPUTS
from kvm_exporter.app.console import tell
from kvm_exporter.app.flags import add_serve_flags
from kvm_exporter.errors import ExporterError, UsageError

EXIT_INTERRUPTED = 128 + 2
"""As a shell reports SIGINT."""

Run = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = build_parser().parse_args(_with_command(words))
    run: Run = options.run
    try:
        return run(options)
    except ExporterError as error:
        if str(error):
            tell(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(UsageError.exit_code, f"kvm-exporter: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Every command with its flags."""
    parser = _Parser(
        prog="kvm-exporter",
        description="Prometheus exporter for the KVM CPUID leaves. Without a command it serves: "
        "kvm-exporter serve --help lists the daemon's flags.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"kvm-exporter {__version__} (revision {REVISION})")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def add(name: str, run: Run, summary: str) -> argparse.ArgumentParser:
        subparser = subparsers.add_parser(name, help=summary, description=f"{summary}.", allow_abbrev=False)
        subparser.set_defaults(run=run)
        return subparser

    add_serve_flags(add("serve", commands.serve, "the daemon (the default)"))
    show = add("show", commands.show, "read now and print what the hypervisor offers")
    decode = add("decode", commands.decode, "the same for a raw dump (cpuid -r)")
    decode.add_argument("file", metavar="FILE", help="a dump of one or many CPUs; - for standard input")
    for command in (show, decode):
        command.add_argument("--format", choices=OUTPUTS, default="table", help="what to print (default: %(default)s)")
    add("baseline", commands.baseline, "print a baseline of this machine, to edit and deploy")
    check = add("check", commands.check, "compare this machine, or a dump, with a baseline; exit 1 if they differ")
    check.add_argument("--baseline", metavar="FILE", type=Path, required=True, help="what is expected")
    check.add_argument("--dump", metavar="FILE", help="a dump instead of this machine; - for standard input")
    compare = add("compare", commands.compare, "may a guest move from machine A to B, by their dumps; exit 1 if not")
    compare.add_argument("source", metavar="A", help="a dump recorded where the guest is")
    compare.add_argument("target", metavar="B", help="a dump recorded where it is to go")
    add("dump", commands.dump, "print this machine's hypervisor leaves as a raw dump")
    textfile = add("textfile", commands.write_textfile, "write the gauges for node_exporter's textfile collector")
    textfile.add_argument("path", metavar="PATH", type=Path, help="the file to replace; its name ends in .prom")
    return parser


def _with_command(words: list[str]) -> list[str]:
    """The words with ``serve`` in front, unless they begin with a command or ask for help or the version."""
    if words and (not words[0].startswith("-") or words[0] in {"-h", "--help", "--version"}):
        return words
    return ["serve", *words]
