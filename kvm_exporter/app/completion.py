"""The completions of kvm-exporter for bash and zsh, from the command line itself.

The library shtab is not used, because it completes neither ``--flag=VALUE`` nor the daemon's flags without a command.
"""

from collections.abc import Sequence

from kvm_exporter.app.introspection import Argument, Command

DEFAULT = "serve"
"""The default command: without a command, the shell completes its flags and all commands."""

BASH = r"""# bash completion for kvm-exporter(1), generated from its command line

_kvm_exporter()
{
    local cur prev words cword split
    _init_completion -s || return

    local command=@DEFAULT@ flags=
    case ${words[1]} in
        @COMMANDS@) ((cword > 1)) && command=${words[1]} ;;
    esac

    case "$command $prev" in
@VALUES@
    esac
    $split && return

    case $command in
@FLAGS@
    esac
    ((cword == 1)) && flags+=" --version"
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags --help" -- "$cur"))
        [[ ${COMPREPLY[*]} == *= ]] && compopt -o nospace
    elif ((cword == 1)); then
        COMPREPLY=($(compgen -W "@WORDS@" -- "$cur"))
    elif [[ $command == @WITH_FILES@ ]]; then
        _filedir
    fi
} &&
    complete -F _kvm_exporter kvm-exporter prometheus-kvm-exporter
"""

ZSH = r"""#compdef kvm-exporter prometheus-kvm-exporter
# zsh completion for kvm-exporter(1), generated from its command line

local -a commands
commands=(
@COMMANDS@
)
local command=@DEFAULT@
local -a first
if (( CURRENT == 2 )); then
    first=('--version[print the version]' '1: :{ _describe command commands }')
elif (( ${commands[(I)$words[2]:*]} )); then
    command=$words[2]
    shift words
    (( CURRENT-- ))
fi

case $command in
@ARGUMENTS@
esac
"""


def bash(commands: Sequence[Command]) -> str:
    """Return the completion for bash, which uses functions of the package bash-completion."""
    values, flags = [], []
    for command in commands:
        for argument in command.flags:
            if argument.value:
                names = "|".join(f'"{command.name} {name}"' for name in argument.names)
                values.append(f"        {names}) {_reply(argument)}return ;;")
        known = " ".join(_flag(name, argument) for argument in command.flags for name in argument.names)
        flags.append(f'        {command.name}) flags="{known}" ;;')
    words = [command.name for command in commands]
    with_files = [command.name for command in commands if command.arguments != command.flags]
    return _filled(
        BASH,
        COMMANDS="|".join(words),
        WORDS=" ".join(words),
        VALUES="\n".join(values),
        FLAGS="\n".join(flags),
        WITH_FILES=f"@({'|'.join(with_files)})",
    )


def zsh(commands: Sequence[Command]) -> str:
    """Return the completion for zsh, a file for a directory in ``fpath``."""
    described = "\n".join(f"    {_quoted(f'{command.name}:{command.summary}')}" for command in commands)
    return _filled(ZSH, COMMANDS=described, ARGUMENTS="\n".join(_arguments(command) for command in commands))


def _reply(argument: Argument) -> str:
    if argument.choices:
        return f'COMPREPLY=($(compgen -W "{" ".join(argument.choices)}" -- "$cur")); '
    return "_filedir; " if argument.is_file else ""


def _flag(name: str, argument: Argument) -> str:
    return f"{name}=" if argument.value else name


def _arguments(command: Command) -> str:
    specs = ["--help[print help]"]
    for argument in command.arguments:
        if not argument.names:
            specs.append(f":{argument.value}:_files")
            continue
        text = argument.help.replace("[", r"\[").replace("]", r"\]")
        for name in argument.names:
            others = f"({' '.join(argument.names)})" if len(argument.names) > 1 else ""
            specs.append(f"{'*' if argument.repeatable else others}{_flag(name, argument)}[{text}]{_value(argument)}")
    lines = " \\\n            ".join(_quoted(spec) for spec in specs)
    return f"    {command.name})\n        _arguments $first \\\n            {lines} ;;"


def _value(argument: Argument) -> str:
    if not argument.value:
        return ""
    if argument.choices:
        return f":value:({' '.join(argument.choices)})"
    return f":{argument.value}:{'_files' if argument.is_file else ''}"


def _quoted(text: str) -> str:
    """Return the text quoted as one word of the shell."""
    return "'" + text.replace("'", r"'\''") + "'"


def _filled(template: str, **parts: str) -> str:
    for name, part in (parts | {"DEFAULT": DEFAULT}).items():
        template = template.replace(f"@{name}@", part)
    return template
