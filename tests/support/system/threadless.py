"""``python -m tests.support.system.threadless WORD …``: kvm-exporter with these words, as a user with no threads left.

The limit does not bind root, so that root becomes a user without any process. Source: setrlimit(2), RLIMIT_NPROC.
"""

import encodings.ascii
import encodings.idna  # noqa: F401 - here, because root's Python may lie where other users cannot read
import os
import resource
import sys

from kvm_exporter.app.cli import main

NOBODY_ELSE = 64_999
"""A user ID without any process."""

if __name__ == "__main__":
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY_ELSE, NOBODY_ELSE, NOBODY_ELSE)
        os.setresuid(NOBODY_ELSE, NOBODY_ELSE, NOBODY_ELSE)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    sys.exit(main(sys.argv[1:]))
