"""The build of the extension ``kvm_exporter._cpuid`` by cffi, in API mode, for Python's stable ABI (abi3)."""

from pathlib import Path

from cffi import FFI

PACKAGE = Path("kvm_exporter")
HEADERS = ("cpuid_api.h", "pvclock_api.h")

ffibuilder = FFI()
ffibuilder.cdef("typedef int... pid_t;")
for header in HEADERS:
    ffibuilder.cdef(Path(PACKAGE, header).read_text(encoding="utf-8"))
ffibuilder.set_source(
    "kvm_exporter._cpuid",
    "#include <stddef.h>\n#include <stdint.h>\n#include <sys/types.h>\n"
    + "".join(f'#include "{header}"\n' for header in HEADERS),
    sources=[str(PACKAGE / "cpuid.c"), str(PACKAGE / "pvclock.c")],
    depends=[str(PACKAGE / header) for header in HEADERS],
    include_dirs=[str(PACKAGE)],
    extra_compile_args=["-std=gnu11", "-Wall", "-Wextra", "-Werror=implicit-function-declaration"],
    # The stable ABI of 3.10, a subset of 3.11's. With 3.11's, <Python.h> omits <string.h>, which cffi 1.15 relies on.
    define_macros=[("Py_LIMITED_API", "0x030a0000")],
    py_limited_api=True,
)
