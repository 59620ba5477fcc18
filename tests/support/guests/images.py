"""The two systems that the guests of the tests run: a hypervisor with KVM, and a guest with the exporter in it."""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from lab.tree import REPOSITORY
from tests.support.guests import initramfs
from tests.support.guests.initramfs import LOADER, Archive, libraries, loaded
from tests.support.tools import missing, program

GUESTS = REPOSITORY / "build" / "guests"
"""Where scripts/guest-tools unpacks."""

ROOT = (GUESTS / "root").resolve()

PYTHON = "usr/lib/python3.11"
PACKAGES = "usr/lib/python3/dist-packages"

SERVER = "usr/bin/qemu-system-x86_64-microvm"
"""QEMU built for KVM alone, with a fifth of the libraries of the full one; it has the q35 machine as well."""

KERNEL_STATE = "usr/local/kernel_state.py"
"""A program that prints what the guest's kernel has enabled."""

STALE_READS = "usr/local/stale-reads"
"""A program that counts reads of a page that was taken away."""

# Modules that the exporter never imports; the extensions would bring libraries of their own.
UNUSED = (
    *("distutils", "ensurepip", "idlelib", "lib2to3", "multiprocessing", "pydoc_data", "test", "tkinter", "turtle*"),
    *("unittest", "xmlrpc", "_codecs_*", "_crypt*", "_curses*", "_dbm*", "_sqlite3*", "_test*", "_xx*"),
    *("nis.*", "ossaudiodev*", "readline*", "xx*"),
)

MOUNTS = """#!/bin/busybox sh
/bin/busybox mkdir -p /bin /dev /proc /run /sys /tmp
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
"""

# Process 1 becomes a shell whose script is the second serial port: as it is no terminal to it, no prompt and no echo.
SHELL = """
stty -F /dev/ttyS1 raw -echo
exec </dev/null >/dev/ttyS1
echo ready
exec sh /dev/ttyS1
"""

HYPERVISOR_INIT = f"""{MOUNTS}
for module in irqbypass kvm kvm-amd; do insmod /modules/$module.ko; done
{SHELL}"""

GUEST_INIT = f"""{MOUNTS}
ip link set lo up
{SHELL}"""

EXPORTER = b"""#!/usr/bin/python3
import sys

from kvm_exporter.app.cli import main

sys.exit(main())
"""


def kernel() -> Path:
    """The kernel of hypervisor and guest."""
    [path] = ROOT.glob("boot/vmlinuz-*")
    return path


def hypervisor_image(folder: Path) -> Path:
    """The hypervisor's initial file system, the guest's kernel and initial file system in it; written to the folder."""
    image = folder / "hypervisor.cpio"
    carried = Archive()
    carried.file("guest.cpio", guest_image(folder).read_bytes())
    carried.write(folder / "carried.cpio")
    _join(image, _cached("hypervisor", _hypervisor), folder / "carried.cpio")
    return image


def guest_image(folder: Path) -> Path:
    """The guest's initial file system, with the exporter as it is now; written to the folder."""
    if not ROOT.exists():
        missing("what guests are made of (scripts/guest-tools)")
    image = folder / "guest.cpio"
    with tempfile.TemporaryDirectory() as staged:
        package = Path(staged, PACKAGES, "kvm_exporter")
        shutil.copytree(
            REPOSITORY / "kvm_exporter", package, ignore=shutil.ignore_patterns("__pycache__", "*.c", "*.h")
        )
        _compile(package, Path(staged))
        exporter = Archive()
        exporter.tree(package, f"{PACKAGES}/kvm_exporter")
        exporter.program("usr/bin/kvm-exporter", EXPORTER)
        exporter.copy(Path(__file__).with_name("kernel_state.py"), KERNEL_STATE)
        exporter.copy(_compiled("stale_reads.c", Path(staged)), STALE_READS)
        exporter.write(folder / "exporter.cpio")
    _join(image, _cached("guest", _guest), folder / "exporter.cpio")
    return image


def _compiled(source: str, folder: Path) -> Path:
    """Compile a C program of this folder, without shared libraries: the guest's are another release's."""
    binary = folder / Path(source).stem
    flags = ("-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread")
    subprocess.run([program("gcc"), *flags, "-o", binary, Path(__file__).with_name(source)], check=True)
    return binary


def _hypervisor() -> Archive:
    archive = _system(HYPERVISOR_INIT)
    archive.copy(kernel(), "vmlinuz")
    for module in ("virt/lib/irqbypass.ko", "arch/x86/kvm/kvm.ko", "arch/x86/kvm/kvm-amd.ko"):
        [path] = ROOT.glob(f"lib/modules/*/kernel/{module}")
        archive.copy(path, f"modules/{path.name}")
    archive.copy(ROOT / SERVER, SERVER)
    for library in libraries(ROOT, SERVER):
        archive.copy(ROOT / library, library)
    for firmware in ("seabios/bios-256k.bin", "qemu/linuxboot_dma.bin", "qemu/kvmvapic.bin"):
        archive.copy(ROOT / "usr/share" / firmware, f"usr/share/{firmware}")
    return archive


def _guest() -> Archive:
    archive = _system(GUEST_INIT)
    archive.copy(ROOT / "usr/bin/python3.11", "usr/bin/python3")
    loading = [ROOT / "usr/bin/python3.11"]
    for folder in (PYTHON, PACKAGES):
        _compile(ROOT / folder, ROOT)
        loading += [path for path in archive.tree(ROOT / folder, folder, *UNUSED) if path.suffix == ".so"]
    for path in loading:
        for library in libraries(ROOT, str(path.relative_to(ROOT))):
            archive.copy(ROOT / library, library)
    # What Debian installs beside the kernel, and the module that shows KVM's MSRs.
    [configuration] = ROOT.glob("boot/config-*")
    archive.copy(configuration, f"boot/{configuration.name}")
    [module] = ROOT.glob("lib/modules/*/kernel/arch/x86/kernel/msr.ko")
    archive.copy(module, f"modules/{module.name}")
    return archive


def _system(init: str) -> Archive:
    """What both have: a first process, a shell with its commands, and the loader."""
    archive = Archive()
    archive.program("init", init.encode())
    archive.copy(ROOT / "bin/busybox", "bin/busybox")
    archive.copy(ROOT / LOADER, "lib64/ld-linux-x86-64.so.2")
    return archive


def _compile(folder: Path, root: Path) -> None:
    """Byte code beside the sources, as Debian's packages make it when they are installed."""
    python = loaded(ROOT, "usr/bin/python3.11", "-m", "compileall", "-q", "-s", str(root), "-p", "/")
    command = [*python, "--invalidation-mode", "unchecked-hash", str(folder)]
    subprocess.run(command, check=True, env={"PYTHONHOME": str(ROOT / "usr")})


def _cached(name: str, build: Callable[[], Archive]) -> Path:
    """An archive that is made again only when the unpacked packages or the recipe are new."""
    recipe = [Path(__file__).read_bytes(), Path(initramfs.__file__).read_bytes(), str(ROOT.stat().st_mtime_ns).encode()]
    path = GUESTS / f"{name}-{hashlib.sha256(b''.join(recipe)).hexdigest()[:16]}.cpio"
    if not path.exists():
        for old in GUESTS.glob(f"{name}-*.cpio"):
            old.unlink()
        build().write(path)
    return path


def _join(image: Path, *archives: Path) -> None:
    with image.open("wb") as output:
        for archive in archives:
            output.write(archive.read_bytes())
