"""Processes that may not pin themselves, where CPUID faults, or whose processor has none: each says so clearly."""

import errno
import os
import platform
import subprocess
import sys
import urllib.error
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.exporter import exporter
from lab.patience import PATIENCE_SECONDS
from lab.tree import REPOSITORY
from tests.support.system.refusal import ARCH_GET_CPUID, refusing
from tests.support.tools import program

SOURCES = REPOSITORY / "kvm_exporter"

PROGRAM = (sys.executable, "-m", "kvm_exporter")
SERVE = ("serve", "--web.listen-address=127.0.0.1:0")

FAULTS = "CPUID faults in this process (arch_prctl ARCH_SET_CPUID); start the exporter without that restriction"
NOT_X86 = f"CPUID exists on x86 processors only, and this machine is {platform.machine()}; run the exporter on x86"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def online() -> int:
    """The number of online CPUs."""
    return os.sysconf("SC_NPROCESSORS_ONLN")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errno.EPERM, "sched_setaffinity(2) is refused; allow it in the seccomp filter"),
        (errno.EINVAL, "it is outside this process's cpuset, or it went offline"),
    ],
    ids=["seccomp", "cpuset"],
)
def test_where_no_cpu_can_be_pinned_the_daemon_is_up(error: int, reason: str) -> None:
    """Every CPU is a failure with its reason, and what a thread reads where it happens to run is served."""
    with exporter(under=refusing("sched_setaffinity", error)) as running:
        scrape = running.scrape()
        assert scrape.values("kvm_cpus", "state") == {
            ("sampled",): 0,
            ("retained",): 0,
            ("skipped",): 0,
            ("failed",): online(),
        }
        assert scrape.value("kvm_exporter_sample_success") == 0
        assert not {"kvm_feature_offered_cpus", "kvm_cpus_divergent"} & scrape.names
        with pytest.raises(urllib.error.HTTPError, match="503"):
            running.get("/-/ready")
        assert scrape.values("kvm_cpu_register", "cpu") == {}
        page = running.get("/")
        assert running.stop() == 0
    with exporter() as free:
        unrestricted = free.scrape()
    for name in ("kvm_present", "kvm_feature_offered"):
        assert scrape.values(name, *LABELS[name]) == unrestricted.values(name, *LABELS[name])
    for cpu in range(online()):
        assert f"CPU {cpu} failed: {reason}".replace("'", "&#x27;") in page


LABELS = {"kvm_present": (), "kvm_feature_offered": ("feature", "register", "bit", "signature")}


@pytest.mark.parametrize("arguments", [("show",), ("dump",), SERVE], ids=lambda arguments: arguments[0])
@pytest.mark.parametrize(
    ("beginning", "message"),
    [
        ((*refusing("arch_prctl", 0, ARCH_GET_CPUID), *PROGRAM), FAULTS),
        ((sys.executable, "-m", "tests.support.system.foreign"), NOT_X86),
    ],
    ids=["faults", "not-x86"],
)
def test_where_cpuid_cannot_be_executed_nothing_is(
    beginning: Sequence[str], message: str, arguments: Sequence[str]
) -> None:
    """One line that says why, and exit code 1; no crash, no traceback."""
    ended = run(*beginning, *arguments)
    assert (ended.returncode, ended.stdout) == (1, "")
    [*log, last] = ended.stderr.splitlines()
    assert last == f"kvm-exporter: {message}"
    assert all(line.startswith("ts=") and "Traceback" not in line for line in log)


@pytest.mark.parametrize("arguments", [("show",), SERVE], ids=lambda arguments: arguments[0])
def test_where_cpuid_really_faults(arguments: Sequence[str]) -> None:
    """The instruction that would raise SIGSEGV is never reached; processors that cannot make it fault are left out."""
    ended = run(sys.executable, "-m", "tests.support.system.faulting", *arguments)
    if "No such device" in ended.stderr:
        pytest.skip("this processor cannot make CPUID fault")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == f"kvm-exporter: {FAULTS}"


MAIN = """
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include "cpuid_api.h"
#include "pvclock_api.h"

int main(void)
{
    uint32_t out[5];
    uint8_t page[32];
    printf("%d %d ", kvm_cpuid_allowed(), kvm_cpuid_execute(1, 0, out));
    printf("%d\\n", kvm_pvclock_copy(0, page));
    return 0;
}
"""


def test_on_another_architecture_the_extension_compiles_and_says_so(tmp_path: Path) -> None:
    """On 64-bit ARM, without a warning, CPUID is ENOTSUP, no page EFAULT; Debian's cross compiler and QEMU run it."""
    emulator = program("qemu-aarch64-static")
    source, binary = tmp_path / "main.c", tmp_path / "main"
    source.write_text(MAIN)
    flags = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-static", f"-I{SOURCES}")
    sources = (str(source), *(str(SOURCES / name) for name in ("cpuid.c", "pvclock.c")))
    subprocess.run([program("aarch64-linux-gnu-gcc"), *flags, "-o", binary, *sources], check=True)
    output = subprocess.run([emulator, binary], capture_output=True, text=True, check=True).stdout
    assert output == f"{errno.ENOTSUP} {errno.ENOTSUP} {errno.EFAULT}\n"
