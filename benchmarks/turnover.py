"""What changes under an exporter that is being soaked: the machine's leaves, its certificate, its web configuration."""

from pathlib import Path

from kvm_exporter.cpuid.registers import Registers
from lab.certificates import Certificates
from lab.drifting import DriftingHost
from lab.readers import kvm_rows
from lab.secure import USERS

EAX = (0x01007EFB, 0x0100007B)
"""Two hosts that the machine migrates between."""

CPUS = 16


class Turnover:
    """A machine, and a folder with its exporter's certificates and web configuration. Every change is there at once."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "web.yml"
        self.changes = self.certificates = self.configurations = 0
        self._made = Certificates(folder)
        self._made.make("ca")
        self.authority = folder / "ca.crt"
        self.renew_certificate()
        self.host = DriftingHost(folder, self._cpus())

    def migrate(self) -> None:
        """The machine's CPUs offer something else."""
        self.changes += 1
        self.host.change(self._cpus())

    def renew_certificate(self) -> None:
        """The web configuration names another certificate."""
        self.certificates += 1
        self._made.make(self._certificate, signer="ca", sans="IP:127.0.0.1")
        self._write()

    def reconfigure(self) -> None:
        """The web configuration wants another header."""
        self.configurations += 1
        self._write()

    @property
    def _certificate(self) -> str:
        return f"server-{self.certificates}"

    def _cpus(self) -> dict[int, dict[tuple[int, int], Registers]]:
        rows = {(leaf, 0): registers for leaf, registers in kvm_rows(EAX[self.changes % len(EAX)]).items()}
        return dict.fromkeys(range(CPUS), rows)

    def _write(self) -> None:
        new = self.config.with_suffix(".new")
        policy = f"default-src 'none'; report-uri /{self.configurations}"
        new.write_text(
            f"tls_server_config:\n  cert_file: {self._certificate}.crt\n  key_file: {self._certificate}.key\n"
            f'http_server_config:\n  headers:\n    Content-Security-Policy: "{policy}"\n{USERS}'
        )
        new.replace(self.config)
