# The types of the extension that cffi builds from cpuid.c; cpuid_api.h says what the functions do.

from typing import Protocol

class _Words(Protocol): ...  # uint32_t[5]: EAX, EBX, ECX, EDX, number of the CPU

class _Library(Protocol):
    def kvm_cpuid_allowed(self) -> int: ...
    def kvm_cpuid_execute(self, leaf: int, subleaf: int, out: _Words, /) -> int: ...
    def kvm_cpuid_pin(self, thread: int, mask: bytes, size: int, /) -> int: ...

class _Interface(Protocol):
    def new(self, cdecl: str, /) -> _Words: ...
    def unpack(self, cdata: _Words, length: int, /) -> list[int]: ...

lib: _Library
ffi: _Interface
