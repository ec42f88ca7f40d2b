"""A study network's credentials in Flower's form: the same keys, as OpenSSH writes them.

SuperLink and SuperNode speak TLS with the files as they are; beside it a SuperNode signs its calls
with a key that was registered at the SuperLink.
"""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from wardround.shared import files
from wardround.shared.enrolment import read_key
from wardround.shared.errors import IdentityError
from wardround.shared.identity import KEY_FILE, Role, identity_of


def public_key(certificate: bytes) -> tuple[str, str]:
    """Return the site that a PEM certificate names, and its public key as OpenSSH writes it.

    Raises:
        IdentityError: It is no certificate, or not one of a site.
    """
    holder = identity_of(certificate)
    if holder.role is not Role.SITE:
        raise IdentityError(
            f"the certificate is one of {holder.role} '{holder.name}', expected one of a site. "
            f"Name the own.crt of the site that is to be registered."
        )
    key = x509.load_pem_x509_certificate(certificate).public_key()
    return holder.name, key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def write_private_key(credentials: Path, path: Path) -> None:
    """Write the key of a folder of credentials to `path` as OpenSSH writes it, for its owner alone.

    Raises:
        IdentityError: The key cannot be read.
    """
    key = read_key(credentials / KEY_FILE)
    path.unlink(missing_ok=True)
    data = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    files.write_once(path, data, mode=files.PRIVATE)
