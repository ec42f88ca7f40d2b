"""Who is on the other end: names and roles in certificates, and the three files that prove one.

Every connection is mutual TLS. A certificate carries its holder as a URI among the subject
alternative names, `wardround://ROLE/NAME`, beside the DNS names or addresses of a coordinator.
A folder of credentials holds `ca.crt` (whom to trust), `own.crt` and `own.key`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from wardround.shared import message_rules as rules
from wardround.shared.errors import IdentityError

CA_FILE = "ca.crt"
CERTIFICATE_FILE = "own.crt"
KEY_FILE = "own.key"
SCHEME = "wardround"


class Role(StrEnum):
    """What the holder of a certificate may do."""

    COORDINATOR = "coordinator"
    SITE = "site"
    EVALUATOR = "evaluator"  # scores checkpoints, never uploads one
    OPERATOR = "operator"  # the study API


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a certificate speaks for.

    Attributes:
        name: The site's identifier, or the coordinator's or operator's name.
        role: What it may do.
        serial: The certificate's serial number, which a revocation names.
        not_after: When it expires, with time zone.
    """

    name: str
    role: Role
    serial: int
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The PEM bytes that one end of a connection needs."""

    authority: bytes
    certificate: bytes
    key: bytes


def uri_of(role: Role, name: str) -> str:
    """Return the URI that names a holder in its certificate."""
    return f"{SCHEME}://{role.value}/{name}"


def read_credentials(folder: Path) -> Credentials:
    """Return the credentials in `folder`.

    Raises:
        IdentityError: A file is missing or cannot be read.
    """
    found = {}
    for name in (CA_FILE, CERTIFICATE_FILE, KEY_FILE):
        try:
            found[name] = (folder / name).read_bytes()
        except OSError as error:
            raise IdentityError(
                f"credentials '{folder / name}' cannot be read: {error.strerror}. "
                f"Enrol first (wardround site enroll), or name the folder that holds {CA_FILE}, "
                f"{CERTIFICATE_FILE} and {KEY_FILE}."
            ) from error
    return Credentials(
        authority=found[CA_FILE], certificate=found[CERTIFICATE_FILE], key=found[KEY_FILE]
    )


def identity_of(certificate: bytes) -> Identity:
    """Return whom a PEM certificate speaks for.

    Raises:
        IdentityError: It is no certificate, or names no holder or more than one.
    """
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise IdentityError(
            f"a certificate cannot be read: {error!s:.200}. Have it made by wardround ca approve."
        ) from error
    if len(uris) != 1:
        raise IdentityError(
            f"a certificate's subject alternative names hold {len(uris)} URIs, expected one of the "
            f"form {SCHEME}://ROLE/NAME. Have it made by wardround ca approve."
        )
    address = urlsplit(uris[0])
    name, role = address.path.removeprefix("/"), address.netloc
    if address.scheme != SCHEME or role not in list(Role) or not rules.SITE_ID.fullmatch(name):
        raise IdentityError(
            f"a certificate's URI is '{uris[0]:.100}', expected {SCHEME}://ROLE/NAME with a role "
            f"of {', '.join(Role)}. Have it made by wardround ca approve."
        )
    return Identity(
        name=name,
        role=Role(role),
        serial=parsed.serial_number,
        not_after=parsed.not_valid_after_utc,
    )
