"""Command lines that are wrong: each ends in exit code 2, with nothing on stdout, and a message that says what to do.

``make golden`` writes the texts again: read git diff before it is committed.
"""

import re
import shlex
from pathlib import Path

import pytest

from kvm_exporter.app import daemon
from kvm_exporter.app.cli import main
from lab.tree import REPOSITORY
from tests.support.rooms.golden import hold_against

GOLDEN = REPOSITORY / "tests" / "golden" / "cli" / "invocations.txt"
"""A line ``$ kvm-exporter ARGUMENT…`` for each command line, and below it what the program prints."""

FILES = {
    "base.yml": "features:\n  required: [steal_time]\n",
    "misspelt.yml": "features:\n  required: [steal_tim]\n",
    "otherkey.yml": "feature: 1\n",
    "broken.yml": "features: [\n",
    "nokey.yml": "tls_server_config:\n  cert_file: server.pem\n",
    "password.yml": "basic_auth_users:\n  bob: secret\n",
    "text.txt": "hello\n",
    "empty": "",
    "kvm.txt": (REPOSITORY / "lab/dumps/firecracker-amd-milan-2cpu.txt").read_text(encoding="ascii"),
    "bare.txt": (REPOSITORY / "lab/dumps/bare-metal-intel-i5-10600k.txt").read_text(encoding="ascii"),
}
"""The files that the command lines name, beside the directory ``dir``."""


def invocations() -> list[str]:
    """Return the command lines."""
    return re.findall(r"^\$ kvm-exporter (.*)$", GOLDEN.read_text(encoding="utf-8"), re.MULTILINE)


def ending(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    """Return the exit code of a command line, what it wrote to stdout, and what to stderr."""
    try:
        code: object = main(shlex.split(line))
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


def test_each_ends_with_a_message(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of a message begins with the program's name, and says what is wrong and what to do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(daemon, "serve")  # a line that is not wrong after all must not serve for ever
    (tmp_path / "dir").mkdir()
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    printed = []
    for line in invocations():
        code, out, err = ending(line, capsys)
        assert (line, code, out) == (line, 2, "")
        assert all(message.startswith("kvm-exporter: ") for message in err.splitlines())
        printed.append(f"$ kvm-exporter {line}\n{err}")
    hold_against(GOLDEN, "\n".join(printed))
