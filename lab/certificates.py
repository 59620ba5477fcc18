"""Certificates for tests, made with the program openssl. Raises MissingToolError."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.patience import PATIENCE_SECONDS
from lab.tools import program


@dataclass(frozen=True, slots=True)
class Certificates:
    """A folder of certificates and keys in PEM: NAME.crt and NAME.key."""

    folder: Path
    #: For which they are valid from when they are made.
    days: int = 2

    def make(self, name: str, signer: str = "", sans: str = "", kind: str = "ec:prime256v1") -> None:
        """Make a certificate, signed with the signer's key or self-signed; ``kind`` is ec:CURVE or rsa:BITS.

        Without ``sans`` the certificate is an authority's; with names (``DNS:a,IP:::1``) it cannot sign others.
        """
        algorithm, _, size = kind.partition(":")
        options = (
            ["-newkey", kind] if algorithm == "rsa" else ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{size}"]
        )
        extensions = [f"subjectAltName={sans}", "basicConstraints=CA:FALSE"] if sans else ["basicConstraints=CA:TRUE"]
        self.openssl(
            *("req", "-x509", "-nodes", "-days", str(self.days), "-subj", f"/CN={name}", *options),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt", "-config", "/dev/null", "-sha256"),
            *(part for extension in extensions for part in ("-addext", extension)),
            *(("-CA", f"{signer}.crt", "-CAkey", f"{signer}.key") if signer else ()),
        )

    def openssl(self, *arguments: str) -> None:
        """Run openssl in the folder."""
        command = [program("openssl"), *arguments]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True, timeout=PATIENCE_SECONDS)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name
