"""The command line: flags, subcommands and exit codes. Messages for people go to stderr, data to stdout."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from kvm_exporter import __version__, commands
from kvm_exporter._revision import REVISION
from kvm_exporter.addresses import AddressError, TcpAddress, parse_address
from kvm_exporter.commands import DEFAULT_ADDRESS, EXIT_FAILURE, EXIT_USAGE, OUTPUTS, UsageError
from kvm_exporter.log import FORMATS, LEVELS
from kvm_exporter.registers import ReadError

EXIT_INTERRUPTED = 128 + 2  # as a shell reports SIGINT


class _Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"kvm-exporter: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = build_parser().parse_args(_with_command(words))
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        code = run(options)
        sys.stdout.flush()
    except UsageError as error:
        return _say(str(error), EXIT_USAGE)
    except (AddressError, ReadError) as error:
        return _say(str(error), EXIT_FAILURE)
    except BrokenPipeError:
        # Whoever read our output has enough of it, as in "… | head"; nothing is left to be flushed at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


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

    serve = subparsers.add_parser("serve", help="the daemon (the default)", allow_abbrev=False)
    _add_serve_flags(serve)
    serve.set_defaults(run=commands.serve)

    show = subparsers.add_parser("show", help="read now and print what the hypervisor offers", allow_abbrev=False)
    show.add_argument("--format", choices=OUTPUTS, default="table", help="default: %(default)s")
    show.set_defaults(run=commands.show)

    decode = subparsers.add_parser("decode", help="the same for a raw dump (cpuid -r)", allow_abbrev=False)
    decode.add_argument("file", metavar="FILE", help="a dump of one or many CPUs; - for standard input")
    decode.add_argument("--format", choices=OUTPUTS, default="table", help="default: %(default)s")
    decode.set_defaults(run=commands.decode)

    dump = subparsers.add_parser(
        "dump", help="print this machine's hypervisor leaves as a raw dump", allow_abbrev=False
    )
    dump.set_defaults(run=commands.dump)

    textfile = subparsers.add_parser(
        "textfile", help="write the gauges for node_exporter's textfile collector", allow_abbrev=False
    )
    textfile.add_argument("path", metavar="PATH", type=Path, help="the file to replace; its name ends in .prom")
    textfile.set_defaults(run=commands.write_textfile)
    return parser


def _add_serve_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--web.listen-address",
        dest="addresses",
        metavar="ADDRESS",
        action="append",
        type=_address,
        help=f"host:port, [::1]:port or :port; may be repeated (default: {DEFAULT_ADDRESS})",
    )
    parser.add_argument(
        "--web.telemetry-path", dest="telemetry_path", metavar="PATH", default="/metrics", help="default: %(default)s"
    )
    parser.add_argument(
        "--web.disable-exporter-metrics",
        dest="exporter_metrics",
        action="store_false",
        help="leave out process_* and python_info",
    )
    parser.add_argument("--log.level", dest="log_level", choices=LEVELS, default="info", help="default: %(default)s")
    parser.add_argument(
        "--log.format",
        dest="log_format",
        choices=FORMATS,
        help="default: journal where stderr leads there, else logfmt",
    )


def _address(text: str) -> TcpAddress:
    try:
        return parse_address(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _with_command(words: list[str]) -> list[str]:
    """The words with ``serve`` in front, unless they begin with a command or ask for help or the version."""
    if words and (not words[0].startswith("-") or words[0] in {"-h", "--help", "--version"}):
        return words
    return ["serve", *words]


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"kvm-exporter: {message}\n")
    return code
