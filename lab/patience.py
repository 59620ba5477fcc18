"""How long a test, a benchmark or the demonstration waits for an event before it fails: only a hang takes so long.

A wait ends with its event. These bounds say nothing of how fast anything is, on a machine that is slow or busy.
"""

PATIENCE_SECONDS = 300.0
"""For an answer, a line of a log, a message, the end of a process: what takes a second or two on a quiet machine."""

GUEST_PATIENCE_SECONDS = 900.0
"""The same for what happens in a guest of an emulated hypervisor."""

NEVER = 10 * PATIENCE_SECONDS
"""A limit of the exporter's, in seconds, that no test reaches: a test that waits for it fails before."""
