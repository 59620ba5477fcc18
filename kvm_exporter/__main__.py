"""Runs the command line as ``python -m kvm_exporter``."""

import sys

from kvm_exporter.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
