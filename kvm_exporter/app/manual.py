"""The man page kvm-exporter(1), from kvm-exporter.1.in and the command line itself.

The template has the prose. Commands and flags come from the parser, so the page is complete and up to date. The date is
``SOURCE_DATE_EPOCH``, by default today.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kvm_exporter import __version__
from kvm_exporter.app.introspection import Argument, Command

TEMPLATE = Path(__file__).with_name("kvm-exporter.1.in")


def page(commands: Sequence[Command]) -> str:
    """Return the page in the format of man(7). The first command is the default one."""
    serve, *others = commands
    parts = {
        "@SYNOPSIS@": "\n".join([_synopsis("[serve] [FLAG...]"), *(_synopsis(_usage(other)) for other in others)]),
        "@COMMANDS@": "\n".join(_command(other) for other in others),
        "@DAEMON@": sections(serve.groups),
    }
    return filled(TEMPLATE, parts)


def filled(template: Path, parts: Mapping[str, str]) -> str:
    """Return the text of a template, with the parts, the date and the version in place of their names."""
    when = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    text = template.read_text(encoding="utf-8")
    for name, part in {**parts, "@DATE@": time.strftime("%Y-%m-%d", when), "@VERSION@": __version__}.items():
        text = text.replace(name, part)
    return text


def sections(groups: Iterable[tuple[str, tuple[Argument, ...]]]) -> str:
    """Return a subsection for each group of flags, given its title and its flags."""
    return "\n".join(f".SS {title[0].upper()}{title[1:]}\n{_list(group)}" for title, group in groups)


def _synopsis(usage: str) -> str:
    return f".B kvm\\-exporter\n{_escaped(usage)}\n.br"


def _usage(command: Command) -> str:
    words = [command.name]
    for argument in sorted(command.arguments, key=lambda argument: not argument.names):
        word = "=".join(filter(None, (*argument.names[:1], argument.value)))
        words.append(word if argument.required else f"[{word}]")
    return " ".join(words)


def _command(command: Command) -> str:
    lines = [".TP", f".B {_escaped(_usage(command))}", _sentence(command.summary)]
    if command.arguments:
        lines += [".RS", _list(command.arguments), ".RE"]
    return "\n".join(lines)


def _list(arguments: tuple[Argument, ...]) -> str:
    return "\n".join(f".TP\n{_head(argument)}\n{_sentence(argument.help)}" for argument in arguments)


def _head(argument: Argument) -> str:
    if not argument.names:
        return _italic(argument.value)
    names = ", ".join(_bold(name) for name in argument.names)
    if argument.choices:
        return f"{names}={'|'.join(_bold(choice) for choice in argument.choices)}"
    return f"{names}={_italic(argument.value)}" if argument.value else names


def _bold(word: str) -> str:
    return f"\\fB{_escaped(word)}\\fR"


def _italic(word: str) -> str:
    return f"\\fI{_escaped(word)}\\fR"


def _sentence(text: str) -> str:
    return _escaped(f"{text[0].upper()}{text[1:]}.")


def _escaped(text: str) -> str:
    """Return the text escaped for roff: hyphens stay ASCII, so that they can be searched for; no line is a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
