"""Changes during a soak: of the machine's leaves, of the certificate, and of the web configuration."""

from pathlib import Path

from kvm_exporter.cpuid.registers import Registers
from lab.certificates import Certificates
from lab.drifting import DriftingHost
from lab.readers import kvm_rows
from lab.secure import USERS

EAX = (0x01007EFB, 0x0100007B)
"""EAX of the feature leaf on the two hosts that the machine migrates between."""

CPUS = 16


class Turnover:
    """A machine, and a folder with certificates and a web configuration for its exporter. Every change is atomic."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "web.yml"
        self.changes = self.certificates = self.configurations = 0
        self._made = Certificates(folder)
        self._made.make("ca")
        self.authority = folder / "ca.crt"
        self.renew_certificate()
        self.host = DriftingHost(folder, self._cpus())

    def migrate(self) -> None:
        """Change the leaves of all CPUs."""
        self.changes += 1
        self.host.change(self._cpus())

    def renew_certificate(self) -> None:
        """Make a new certificate, and let the web configuration name it."""
        self.certificates += 1
        self._made.make(self._certificate, signer="ca", sans="IP:127.0.0.1")
        self._write()

    def reconfigure(self) -> None:
        """Change a header in the web configuration."""
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
