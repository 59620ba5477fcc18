"""Initial file systems for small Linux guests: uncompressed cpio archives of what scripts/guest-tools unpacked."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

ALIGNMENT = 4
LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
LOADER = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"


class Archive:
    """A cpio archive in the "newc" format; the kernel unpacks several that follow one another, one over the other."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._names: set[str] = set()

    def folder(self, name: str) -> None:
        """An empty folder, and those that it is in."""
        if name in self._names:
            return
        if "/" in name:
            self.folder(name.rpartition("/")[0])
        self._entry(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """A file, and the folders that it is in. One that is there already stays."""
        if name in self._names:
            return
        if "/" in name:
            self.folder(name.rpartition("/")[0])
        self._entry(name, stat.S_IFREG | mode, content)

    def program(self, name: str, content: bytes) -> None:
        """A file that can be executed."""
        self.file(name, content, 0o755)

    def copy(self, source: Path, name: str) -> None:
        """A file from here; a link is followed."""
        self.file(name, source.read_bytes(), stat.S_IMODE(source.stat().st_mode))

    def tree(self, source: Path, name: str, *leave_out: str) -> list[Path]:
        """A folder with all that is in it, without what the patterns match at any depth; returns the files."""
        ignored = shutil.ignore_patterns(*leave_out)
        copied = []
        for folder, folders, files in os.walk(source):
            without = ignored(folder, [*folders, *files])
            folders[:] = sorted(set(folders) - without)
            for path in (Path(folder, file) for file in sorted(set(files) - without)):
                self.copy(path, str(Path(name, path.relative_to(source))))
                copied.append(path)
        return copied

    def write(self, path: Path) -> None:
        """The whole archive, with its trailer."""
        self._entry("TRAILER!!!", 0, b"")
        unfinished = path.with_suffix(".new")
        unfinished.write_bytes(self._content)
        unfinished.replace(path)

    def _entry(self, name: str, mode: int, content: bytes) -> None:
        self._names.add(name)
        encoded = name.encode() + b"\0"
        inode = len(self._names) if content else 0
        numbers = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        self._content += b"070701" + b"".join(b"%08X" % number for number in numbers) + encoded
        self._pad()
        self._content += content
        self._pad()

    def _pad(self) -> None:
        self._content += bytes(-len(self._content) % ALIGNMENT)


def loaded(root: Path, program: str, *arguments: str) -> list[str]:
    """The command line of a program under another root, with the loader and the libraries from there."""
    path = ":".join(str(root / folder) for folder in LIBRARIES)
    return [str(root / LOADER), "--library-path", path, str(root / program), *arguments]


def libraries(root: Path, program: str) -> Iterator[str]:
    """The shared libraries that a program or an extension loads: paths under the root."""
    command = loaded(root, program)
    listing = subprocess.run([command[0], "--list", *command[1:]], capture_output=True, text=True, check=True).stdout
    for line in listing.splitlines():
        if "=> /" in line:
            yield str(Path(line.split()[2]).relative_to(root))
