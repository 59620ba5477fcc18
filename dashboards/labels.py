"""The labels that identify a machine and a bit of it, as lists for ``by`` and ``on`` in PromQL."""

MACHINE = ("job", "instance")
"""The labels that identify one machine."""


def labels(*names: str) -> str:
    """Return the names as a comma-separated list, each once."""
    return ", ".join(dict.fromkeys(names))


OF_MACHINE = labels(*MACHINE)
OF_BIT = labels(*MACHINE, "register", "bit")
