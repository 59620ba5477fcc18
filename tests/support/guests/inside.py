"""The exporter inside a guest, by way of the guest's shell."""

import json
from typing import Any

from lab.patience import GUEST_PATIENCE_SECONDS
from lab.scrape import Scrape
from tests.support.guests.serial import Shell

ADDRESS = "127.0.0.1:10401"
LOG = "/run/kvm-exporter.log"

SHOW_CODES = (0, 3)
"""On KVM, and not."""


def show(shell: Shell) -> dict[str, Any]:
    """What ``kvm-exporter show`` says."""
    shown: dict[str, Any] = json.loads(shell.run("kvm-exporter show --format=json", SHOW_CODES))
    return shown


def read(shell: Shell, path: str) -> str:
    """A file of the guest, without white space around."""
    return shell.run(f"cat {path}").strip()


class ServingExporter:
    """A daemon that serves in the guest, until the guest ends."""

    def __init__(self, shell: Shell, *flags: str) -> None:
        self._shell = shell
        patient = f"--sample.timeout={GUEST_PATIENCE_SECONDS:.0f}s"
        command = " ".join(("kvm-exporter", "serve", f"--web.listen-address={ADDRESS}", patient, *flags))
        self.pid = shell.run(f"{command} 2>{LOG} & echo $!").strip()
        # It has ended, or it serves.
        shell.run(
            f"while kill -0 {self.pid} && ! grep -q listening {LOG}; do sleep 0.1; done; cat {LOG}; kill -0 {self.pid}"
        )

    def scrape(self) -> Scrape:
        """The series of ours; others and comments stay away, as the line is slow."""
        return Scrape(self._shell.run(f"wget -qO- http://{ADDRESS}/metrics | grep ^kvm_"))

    def identity(self) -> str:
        """Equal as long as it is the same process in the same boot."""
        return read(self._shell, f"/proc/sys/kernel/random/boot_id /proc/{self.pid}/stat").split("(")[0]

    def allowed_cpus(self) -> set[str]:
        """The CPUs that its threads may run on, as the kernel lists them."""
        listing = self._shell.run(f"grep -h Cpus_allowed_list /proc/{self.pid}/task/*/status")
        return {line.split()[1] for line in listing.splitlines()}
