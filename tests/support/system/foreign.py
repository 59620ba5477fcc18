"""``python -m tests.support.system.foreign …``: the program on a processor without CPUID, as its extension answers."""

import errno
import sys
from types import ModuleType

from cffi import FFI


class Library:
    """cpuid.c, compiled for anything but x86."""

    def kvm_cpuid_allowed(self) -> int:
        """Nothing is."""
        return errno.ENOTSUP

    def kvm_cpuid_pin(self, thread: int, mask: bytes, size: int) -> int:
        """Threads can be pinned all the same."""
        del thread, mask, size
        return 0


def main() -> int:
    """Put the extension's stand-in where the program finds it."""
    extension = ModuleType("kvm_exporter._cpuid")
    vars(extension).update(lib=Library(), ffi=FFI())
    sys.modules[extension.__name__] = extension
    from kvm_exporter.app.cli import main as program  # noqa: PLC0415 - imports the extension

    return program()


if __name__ == "__main__":
    sys.exit(main())
