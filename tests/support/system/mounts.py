"""Programs that see other files than everybody else: in a mount namespace of their own, which ends with them."""

import subprocess
from pathlib import Path

from tests.support.tools import missing, program


def seeing(*mounts: str) -> list[str]:
    """The beginning of a command line: what follows runs after these commands of mount(8), each without its name.

    Where that is not permitted, the test is skipped.
    """
    script = "".join(f"mount {mount} && " for mount in mounts) + 'exec "$@"'
    under = [program("unshare"), "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*under[:3], "true"], capture_output=True, check=False).returncode:
        missing("the right to mount in a namespace of one's own")
    return under


def instead(path: str, content: Path) -> str:
    """The mount that puts a file in the place of another."""
    return f"--bind '{content}' '{path}'"
