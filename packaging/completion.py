"""``completion.py bash|zsh``: print the shell's completion of kvm-exporter, for the build of a package."""
# ruff: noqa: INP001 - a program, not a module of a package

import sys

from kvm_exporter.app.cli import build_parser
from kvm_exporter.app.completion import bash, zsh
from kvm_exporter.app.introspection import commands

[shell] = sys.argv[1:]
sys.stdout.write({"bash": bash, "zsh": zsh}[shell](commands(build_parser())))
