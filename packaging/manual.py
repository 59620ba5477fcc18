"""``manual.py``: print the man page kvm-exporter(1), for the build of a package."""
# ruff: noqa: INP001 - a program, not a module of a package

import sys

from kvm_exporter.app.cli import build_parser
from kvm_exporter.app.introspection import commands
from kvm_exporter.app.manual import page

sys.stdout.write(page(commands(build_parser())))
