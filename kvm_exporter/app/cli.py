"""The command line: subcommands and exit codes. Error messages go to stderr, data to stdout."""

import argparse
import re
import sys
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from kvm_exporter import __version__
from kvm_exporter._revision import REVISION
from kvm_exporter.app import commands
from kvm_exporter.app.commands import OUTPUTS
from kvm_exporter.app.console import print_error, write
from kvm_exporter.app.flags import add_max_age_flag, add_reference_flag, add_serve_flags
from kvm_exporter.errors import ExporterError, UsageError

EXIT_INTERRUPTED = 128 + 2
"""128 + SIGINT, the status that a shell reports for a process ended by that signal."""

PREFIXES = ("/usr/local", "/usr")
"""Where systemd looks for units and the catalog, man for pages, and shells for programs and completions."""

Run = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (None: sys.argv) and return the exit code.

    Raises SystemExit after --help and --version.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = _parse(_with_command(arguments))
        run: Run = options.run
        return run(options)
    except ExporterError as error:
        if str(error):
            print_error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line that begins with a command.

    Raises UsageError, SystemExit after --help and --version, and OutputError if those cannot be written.
    """
    try:
        options, unknown = build_parser().parse_known_args(arguments)
        if unknown:
            parser: _Parser = options.parser
            parser.fail(f"unknown arguments: {' '.join(unknown)}", unknown[0].partition("=")[0], parser.flags())
    except SystemExit:
        write("")  # flushes what argparse wrote, and raises the error of it, which argparse ignores
        raise
    return options


class _Parser(argparse.ArgumentParser):
    """Raises UsageError with one line, without the usage summary, that suggests what may have been meant."""

    def error(self, message: str) -> NoReturn:
        # Python 3.12 and later do not quote the choices.
        if wrong := re.fullmatch(r"argument (.*): invalid choice: '(.*)' \(choose from (.*)\)", message):
            choices = re.findall(r"[\w/-]+", wrong[3])
            instead = ("--help", "--version") if wrong[1] == "COMMAND" else ()
            message = f"{wrong[1]}: {wrong[2]!r} is not one of {', '.join(choices)}"
            self.fail(message, wrong[2], (*choices, *instead))
        self.fail(message.removeprefix("argument "))

    def fail(self, message: str, wrong: str = "", known: Collection[str] = ()) -> NoReturn:
        """Raise UsageError with the message, and with the known word that may have been meant, if there is one."""
        meant = _meant(wrong.lower(), known)
        see = f"did you mean {meant}? See" if meant else "see"
        raise UsageError(f"{message}; {see} {self.prog} --help")

    def flags(self) -> Collection[str]:
        """Return the names of all flags."""
        return re.findall(r"--[a-z.-]+", self.format_usage())


def _meant(wrong: str, known: Collection[str]) -> str | None:
    """Return the known word that a wrong one abbreviates, if it is the only one, or else the most similar known word.

    None if no known word is similar. Flags of one section, such as ``--sample.``, have to be similar without it, too.
    """
    begun = [word for word in known if wrong.strip("-") and word.startswith(wrong)]
    if len(begun) == 1:
        return begun[0]
    section = wrong[: wrong.find(".") + 1]
    for word in get_close_matches(wrong, known):
        if not word.startswith(section) or get_close_matches(wrong.removeprefix(section), [word.removeprefix(section)]):
            return word
    return None


class _Program(_Parser):
    """The parser of all commands; its help has the flags of the default command as well."""

    serve: argparse.ArgumentParser

    def format_help(self) -> str:
        _, heading, flags = self.serve.format_help().partition("serving:\n")
        return f"{super().format_help()}\nFlags of serve:\n\n{heading}{flags}"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. Their flags, help and defaults also make the manual page and completions."""
    parser = _Program(
        prog="kvm-exporter",
        description="Prometheus exporter for the KVM CPUID leaves. Without a command it runs serve.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"kvm-exporter {__version__} (revision {REVISION})")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def add(name: str, run: Run, summary: str) -> argparse.ArgumentParser:
        subparser = subparsers.add_parser(name, help=summary, description=f"{summary}.", allow_abbrev=False)
        subparser.set_defaults(run=run, parser=subparser)
        return subparser

    parser.serve = add("serve", commands.serve, "run the daemon (default)")
    add_serve_flags(parser.serve)
    show = add("show", commands.show, "sample this machine and print the features that the hypervisor offers")
    decode = add("decode", commands.decode, "print the features in a raw dump (cpuid -r)")
    decode.add_argument("file", metavar="FILE", help="dump of one or more CPUs; - for standard input")
    for command in (show, decode):
        command.add_argument("--format", choices=OUTPUTS, default="table", help="output format (default: %(default)s)")
    add_reference_flag(show)
    add("baseline", commands.baseline, "print a baseline file for this machine, to edit and deploy")
    check = add(
        "check",
        commands.check,
        "check the features of this machine, or of a dump, for contradictions and against a baseline; "
        "exit 1 if one is found, or a CPU could not be read",
    )
    check.add_argument("--baseline", metavar="FILE", help="baseline file; - for standard input (default: none)")
    check.add_argument("--dump", metavar="FILE", help="check this dump instead of this machine; - for standard input")
    compare = add(
        "compare",
        commands.compare,
        "check whether a running guest can migrate from A to B, given a dump of each; exit 1 if not",
    )
    compare.add_argument("source", metavar="A", help="dump recorded on the source machine, or the dump of a host")
    compare.add_argument("target", metavar="B", help="dump recorded on the target machine, or the dump of a host")
    compare.add_argument(
        "--format", choices=("table", "json"), default="table", help="output format (default: %(default)s)"
    )
    compare.add_argument("--strict", action="store_true", help="exit 1 on warnings too")
    dump = add("dump", commands.dump, "print this machine's hypervisor leaves as a raw dump")
    dump.add_argument(
        "--host", action="store_true", help="print what this machine's own KVM can offer to guests instead"
    )
    textfile = add("textfile", commands.write_textfile, "write the gauges for node_exporter's textfile collector")
    add_max_age_flag(
        textfile, "how often a timer runs this: KvmExporterSampleStale fires if the file is much older; 0 disables that"
    )
    textfile.add_argument("path", metavar="PATH", type=Path, help="file to replace; its name must end in .prom")
    units = add(
        "units",
        commands.write_units,
        "write systemd units for the exporter of this virtual environment, with man page, completions and a link on "
        "PATH",
    )
    units.add_argument(
        "--prefix",
        choices=PREFIXES,
        default=PREFIXES[0],
        help="directory to install into; packages use /usr (default: %(default)s)",
    )
    units.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        default=Path("/"),
        help="write below this directory, such as that of an image or a package (default: %(default)s)",
    )
    units.set_defaults(program=parser)
    return parser


def _with_command(arguments: list[str]) -> list[str]:
    """Return the arguments with ``serve`` in front, unless they start with a command, --help or --version."""
    if arguments and (not arguments[0].startswith("-") or arguments[0] in {"-h", "--help", "--version"}):
        return arguments
    return ["serve", *arguments]
