"""How somebody gets a certificate: the key is made where it stays, only files are carried by hand.

At the holder `make_request` makes `own.key`, which never leaves, and `own.csr`, which says: who has
this key asks to be ROLE NAME. The request goes to the authority with the token of the invitation;
the certificate that comes back is put into place by `install`. To renew, do the same: the key stays
the same, so the request itself proves that it comes from who holds the old certificate.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from wardround.shared import credential_check
from wardround.shared import message_rules as rules
from wardround.shared.errors import IdentityError, UsageError
from wardround.shared.files import PRIVATE, write_once, write_over
from wardround.shared.identity import (
    CA_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    PARSE_ERRORS,
    Credentials,
    Identity,
    Role,
    holder_in,
    identity_of,
    uri_of,
)

REQUEST_FILE = "own.csr"
CURVES = (ec.SECP256R1, ec.SECP384R1)
_AGAIN = "Make the request anew: wardround site enroll."


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request for a certificate whose signature was found good: its sender has the key."""

    role: Role
    name: str
    public_key: ec.EllipticCurvePublicKey


def make_request(folder: Path, role: Role, name: str) -> Path:
    """Make `own.csr` in `folder`, and `own.key` where there is none; return the request's path.

    Args:
        folder: Made when it does not exist, for its owner alone.
        role: What to be.
        name: Who to be; a-z, 0-9 and "-", at most 32, beginning with a letter.

    Raises:
        UsageError: `name` is spelled otherwise.
        IdentityError: The folder cannot be written, or its key or certificate is another one.
    """
    check_name(name)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_same_holder(folder, role, name)
        key = _key_in(folder)
        path = folder / REQUEST_FILE
        write_over(path, _request(key, role, name))
    except OSError as error:
        raise _unwritable(folder, error) from error
    return path


def read_request(pem: bytes) -> Request:
    """Return what a request asks for, after checking that its sender has the key.

    Raises:
        IdentityError: It is no request, its signature is wrong, its key is of another kind than
            P-256 or P-384, or it names no holder or several.
    """
    try:
        parsed = x509.load_pem_x509_csr(pem)
        public_key = parsed.public_key()
        is_signed = parsed.is_signature_valid
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except PARSE_ERRORS as error:
        raise IdentityError(f"a request cannot be read: {error!s:.200}. {_AGAIN}") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(
        public_key.curve, CURVES
    ):
        raise IdentityError(f"a request's key is of another kind than P-256 or P-384. {_AGAIN}")
    if not is_signed:
        raise IdentityError(
            f"a request's signature is not that of its key, expected proof that the sender has "
            f"the private key. {_AGAIN}"
        )
    role, name = holder_in(names, what="a request", remedy=_AGAIN)
    return Request(role=role, name=name, public_key=public_key)


def install(
    folder: Path, certificate: bytes, *, now: datetime, authority: bytes | None = None
) -> Identity:
    """Put a certificate into `folder` after checking that it is the one that was asked for.

    Args:
        folder: Holds `own.key` and `own.csr`.
        certificate: The certificate that came back, PEM.
        now: The time, with time zone.
        authority: The authority's certificate, PEM; may be left out where `ca.crt` is here.

    Returns:
        Whom the certificate speaks for.

    Raises:
        IdentityError: It does not fit the key, the request or the authority, is not valid now, or
            `ca.crt` is that of another authority. The folder is as it was.
    """
    trusted = _authority_of(folder, authority)
    request = read_request(_read(folder / REQUEST_FILE, "Make it first: wardround site enroll."))
    key = _read(folder / KEY_FILE, "Make it first: wardround site enroll.")
    credentials = Credentials(authority=trusted, certificate=certificate, key=key)
    found = credential_check.check(credentials, now=now)
    inside = [replace(finding, file=folder / finding.file) for finding in found]
    credential_check.refuse_faulty(inside, what="the certificate")
    identity = identity_of(certificate)
    if (identity.role, identity.name) != (request.role, request.name):
        raise IdentityError(
            f"the certificate speaks for {uri_of(identity.role, identity.name)}, expected "
            f"{uri_of(request.role, request.name)} as in '{folder / REQUEST_FILE}'. "
            f"Install the certificate that was made for this request."
        )
    try:
        write_over(folder / CA_FILE, trusted)
        write_over(folder / CERTIFICATE_FILE, certificate)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return identity


def check_name(name: str) -> None:
    """Check that a name can stand in a certificate.

    Raises:
        UsageError: It is spelled otherwise than the name of a site.
    """
    if not rules.SITE_ID.fullmatch(name):
        raise UsageError(
            f"name '{name:.100}' is not allowed, expected a-z, 0-9 and '-', at most 32, beginning "
            f"with a letter. Give the name that the plan uses, such as utrecht."
        )


def key_digest(public_key: ec.EllipticCurvePublicKey) -> str:
    """Return the digest that stands for a public key: SHA-256 of its DER form, hexadecimal."""
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def new_key(curve: ec.EllipticCurve) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """Return a private key and its PEM form, without a pass phrase."""
    key = ec.generate_private_key(curve)
    return key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the private key in a file.

    Raises:
        IdentityError: It cannot be read or is of another kind than P-256 or P-384.
    """
    remedy = "Restore it from a copy, or begin in an empty folder."
    try:
        key = load_pem_private_key(_read(path, remedy), password=None)
    except (*PARSE_ERRORS, TypeError) as error:
        raise IdentityError(
            f"'{path}' holds no PEM private key without a pass phrase. {remedy}"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, CURVES):
        raise IdentityError(f"'{path}' holds no key of kind P-256 or P-384. {remedy}")
    return key


def _check_same_holder(folder: Path, role: Role, name: str) -> None:
    path = folder / CERTIFICATE_FILE
    if not path.exists():
        return
    identity = identity_of(path.read_bytes())
    if (identity.role, identity.name) != (role, name):
        raise IdentityError(
            f"'{path}' speaks for {uri_of(identity.role, identity.name)}, expected "
            f"{uri_of(role, name)}. Name another folder: each holder has its own."
        )


def _key_in(folder: Path) -> ec.EllipticCurvePrivateKey:
    path = folder / KEY_FILE
    if path.exists():
        return read_key(path)
    key, pem = new_key(ec.SECP256R1())
    write_once(path, pem, mode=PRIVATE)
    return key


def _request(key: ec.EllipticCurvePrivateKey, role: Role, name: str) -> bytes:
    holder = x509.UniformResourceIdentifier(uri_of(role, name))
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .add_extension(x509.SubjectAlternativeName([holder]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def _authority_of(folder: Path, given: bytes | None) -> bytes:
    """Return the authority to trust: whom a folder trusts is never changed in passing."""
    path = folder / CA_FILE
    if given is None:
        return _read(path, "Give the authority's certificate with --ca.")
    if path.exists() and path.read_bytes().strip() != given.strip():
        raise IdentityError(
            f"'{path}' is another authority's certificate than the one given. If the network has a "
            f"new authority, enrol into an empty folder."
        )
    return given


def _read(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityError(f"'{path}' cannot be read: {error.strerror}. {remedy}") from error


def _unwritable(folder: Path, error: OSError) -> IdentityError:
    return IdentityError(
        f"'{folder}' cannot be written: {error.strerror}. "
        f"Name a folder that its owner can write, with room on the disk."
    )
