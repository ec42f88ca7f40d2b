"""Who is on the other end: names and roles in certificates, and the three files that prove one.

Every connection is mutual TLS. A certificate carries its holder as a URI among the subject
alternative names, `wardround://ROLE/NAME`, beside the DNS names or addresses of a coordinator.
A folder of credentials holds `ca.crt` (whom to trust), `own.crt` and `own.key`.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from wardround.shared import message_rules as rules
from wardround.shared.errors import IdentityError

CA_FILE = "ca.crt"
CERTIFICATE_FILE = "own.crt"
KEY_FILE = "own.key"
SCHEME = "wardround"

# What cryptography raises when it reads something that is not well-formed.
PARSE_ERRORS = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class Role(StrEnum):
    """What the holder of a certificate may do."""

    COORDINATOR = "coordinator"
    SITE = "site"
    EVALUATOR = "evaluator"  # scores checkpoints, never uploads one
    OPERATOR = "operator"  # the study API


# For which ends of a connection a role's certificate serves.
EXTENDED_USAGES = {
    # A coordinator also dials itself: its own health check comes in like any other call.
    Role.COORDINATOR: (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    Role.SITE: (ExtendedKeyUsageOID.CLIENT_AUTH,),
    Role.EVALUATOR: (ExtendedKeyUsageOID.CLIENT_AUTH,),
    Role.OPERATOR: (ExtendedKeyUsageOID.CLIENT_AUTH,),
}


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
    remedy = "Have it made by wardround ca approve."
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except PARSE_ERRORS as error:
        raise IdentityError(f"a certificate cannot be read: {error!s:.200}. {remedy}") from error
    role, name = holder_in(names, what="a certificate", remedy=remedy)
    return Identity(
        name=name,
        role=role,
        serial=parsed.serial_number,
        not_after=parsed.not_valid_after_utc,
    )


def holder_in(names: x509.SubjectAlternativeName, *, what: str, remedy: str) -> tuple[Role, str]:
    """Return role and name of the one holder that subject alternative names state.

    Args:
        names: Of a certificate or of a request for one.
        what: What they are of, for the message.
        remedy: What to do when they name nobody, for the message.

    Raises:
        IdentityError: They hold no URI or several, or one that is not spelled as `uri_of` does.
    """
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise IdentityError(
            f"{what}'s subject alternative names hold {len(uris)} URIs, expected one of the "
            f"form {SCHEME}://ROLE/NAME. {remedy}"
        )
    # Not urlsplit: it drops line breaks, queries and fragments, so that two spellings
    # would speak for one holder.
    spelled = _HOLDER.fullmatch(uris[0])
    if spelled is None:
        raise IdentityError(
            f"{what}'s URI is {uris[0]!r:.100}, expected {SCHEME}://ROLE/NAME with a role "
            f"of {', '.join(Role)}. {remedy}"
        )
    return Role(spelled["role"]), spelled["name"]


def fingerprint(certificate: bytes) -> str:
    """Return the SHA-256 of a PEM certificate as other programs show it, to be read aloud.

    Raises:
        IdentityError: It is no certificate.
    """
    try:
        digest = x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256())
    except PARSE_ERRORS as error:
        raise IdentityError(
            f"a certificate cannot be read: {error!s:.200}. Copy the file anew from where it was "
            f"made."
        ) from error
    return digest.hex(":").upper()


_HOLDER = re.compile(rf"{SCHEME}://(?P<role>{'|'.join(Role)})/(?P<name>{rules.SITE_ID.pattern})")
