"""The certificates of the tests that mirror the rooms: committed, so that these tests need no program to make them.

They are valid for a hundred years; ``python -m tests.support.rooms.certificates`` makes all of them again with openssl.
"""

import shutil
from pathlib import Path

from lab.certificates import Certificates

COMMITTED = Path(__file__).with_name("pem")

CENTURY = 36500
"""Days."""

AUTHORITY = "[ca]\ndefault_ca=x\n[x]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=36500\n"
"""What openssl has to be told before it writes a list of revoked certificates."""


def certificates(folder: Path) -> Certificates:
    """A copy of them in a folder: two authorities, one below the first, servers of both kinds of keys, clients.

    ``new.key`` and ``old.key`` are the keys of ``server`` and ``rsa`` with a passphrase, in today's form and in that of
    SSLeay; ``weak`` has a key that is too small; ``revoked`` is the first authority's list of revoked certificates.
    """
    shutil.copytree(COMMITTED, folder, dirs_exist_ok=True)
    return Certificates(folder)


def make(folder: Path) -> None:
    """Make all of them in an empty folder."""
    made = Certificates(folder, CENTURY)
    made.make("ca")
    made.make("between", signer="ca")
    made.make("stranger")
    made.make("server", signer="ca", sans="DNS:localhost")
    made.make("rsa", signer="ca", sans="DNS:localhost", kind="rsa:2048")
    made.make("client", signer="ca", sans="DNS:prometheus,IP:192.0.2.1,IP:2001:db8::1,email:a@b.c,URI:spiffe://x/y")
    made.make("below", signer="between", sans="DNS:below")
    made.make("alone", sans="DNS:alone")
    made.make("unknown", signer="stranger", sans="DNS:prometheus")
    made.make("weak", kind="rsa:1024")
    made.openssl("pkey", "-in", "server.key", "-aes256", "-passout", "pass:x", "-out", "new.key")
    made.openssl("rsa", "-in", "rsa.key", "-aes256", "-traditional", "-passout", "pass:x", "-out", "old.key")
    temporary = (folder / "ca.cnf", folder / "index")
    for file, text in zip(temporary, (AUTHORITY, ""), strict=True):
        file.write_text(text)
    made.openssl(*("ca", "-gencrl", "-config", "ca.cnf", "-keyfile", "ca.key", "-cert", "ca.crt", "-out", "revoked"))
    for file in temporary:
        file.unlink()


if __name__ == "__main__":
    shutil.rmtree(COMMITTED, ignore_errors=True)
    COMMITTED.mkdir()
    make(COMMITTED)
