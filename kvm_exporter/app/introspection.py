"""The commands and flags of ``kvm-exporter`` as values, from which the man page and the completions are made.

argparse has no public way to list the arguments of a parser. Only this module uses its private attributes.
"""
# ruff: noqa: SLF001 - the private attributes have had these names since Python 3.2

import argparse
from dataclasses import dataclass

FILES = frozenset({"FILE", "PATH", "A", "B"})
"""Placeholders whose value is a file name, except for the flags in NO_FILES."""

NO_FILES = frozenset({"--web.telemetry-path"})


@dataclass(frozen=True, slots=True)
class Argument:
    """A flag, or, without names, a positional argument."""

    names: tuple[str, ...]
    value: str
    """The placeholder of its value, such as ``FILE``; empty if it takes no value."""
    help: str
    choices: tuple[str, ...]
    required: bool
    repeatable: bool

    @property
    def is_file(self) -> bool:
        """Whether the value is a file name."""
        return self.value in FILES and not NO_FILES & set(self.names)


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand, with its arguments in titled groups."""

    name: str
    summary: str
    groups: tuple[tuple[str, tuple[Argument, ...]], ...]

    @property
    def flags(self) -> tuple[Argument, ...]:
        """The arguments that have names, from all groups."""
        return tuple(argument for argument in self.arguments if argument.names)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments of all groups."""
        return tuple(argument for _, group in self.groups for argument in group)


def commands(program: argparse.ArgumentParser) -> tuple[Command, ...]:
    """Return every subcommand of a parser, in the order of the help, without the flag ``--help``."""
    [subparsers] = (action for action in program._actions if isinstance(action, argparse._SubParsersAction))
    summaries = {action.dest: str(action.help) for action in subparsers._choices_actions}
    return tuple(Command(name, summaries[name], tuple(groups(parser))) for name, parser in subparsers.choices.items())


def groups(parser: argparse.ArgumentParser) -> list[tuple[str, tuple[Argument, ...]]]:
    """Return the titles of a parser's groups with their arguments, without the flag ``--help`` and empty groups."""
    found = []
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
        if actions:
            found.append((str(group.title), tuple(_argument(action) for action in actions)))
    return found


def _argument(action: argparse.Action) -> Argument:
    choices = tuple(str(choice) for choice in action.choices or ())
    value = "" if action.nargs == 0 else str(action.metavar or "|".join(choices))
    return Argument(
        names=tuple(action.option_strings),
        value=value,
        help=str(action.help) % vars(action),
        choices=choices,
        required=action.required,
        repeatable=isinstance(action, argparse._AppendAction),
    )
