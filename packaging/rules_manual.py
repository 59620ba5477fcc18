"""``rules_manual.py``: print the man page kvm-exporter-rules(1), from its template and the command line itself."""
# ruff: noqa: INP001 - a program, not a module of a package

import sys
from pathlib import Path

from flags import build_parser

from kvm_exporter.app.introspection import groups
from kvm_exporter.app.manual import filled, sections

TEMPLATE = Path(__file__).with_name("kvm-exporter-rules.1.in")

if __name__ == "__main__":
    sys.stdout.write(filled(TEMPLATE, {"@FLAGS@": sections(groups(build_parser()))}))
