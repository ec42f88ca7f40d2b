"""What is wrong, or soon will be, with the three files that prove who somebody is.

Checked by whoever installs a certificate, by both ends before they connect, and by
`wardround doctor`. Nothing is raised on the way: all findings come together, each with its remedy.
"""

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from wardround.shared.errors import IdentityError
from wardround.shared.identity import (
    CA_FILE,
    CERTIFICATE_FILE,
    EXTENDED_USAGES,
    KEY_FILE,
    PARSE_ERRORS,
    Credentials,
    Identity,
    Role,
    identity_of,
    read_credentials,
)

EXPIRES_SOON = timedelta(days=14)
_RENEW = "Renew it: wardround site enroll FOLDER, then wardround ca renew"
_APPROVE = "Have it made by wardround ca approve"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing wrong with credentials.

    Attributes:
        file: Which of the files; within its folder where that is known.
        field: What of the file.
        expected: What it should be, no full stop.
        got: What it is, no full stop.
        remedy: What to do, no full stop.
        is_error: Whether connections fail because of it, or are not safe; else it is a warning.
    """

    file: Path
    field: str
    expected: str
    got: str
    remedy: str
    is_error: bool = True

    def line(self) -> str:
        """Return the finding as one line."""
        kind = "error" if self.is_error else "warning"
        return (
            f"{kind}: {self.file}, {self.field}: expected {self.expected}, got {self.got}. "
            f"{self.remedy}."
        )


def check_folder(folder: Path, *, now: datetime) -> list[Finding]:
    """Return what is wrong with the credentials in `folder`, its files' modes included.

    Args:
        folder: Holds ca.crt, own.crt and own.key.
        now: The time, with time zone.
    """
    missing = [
        Finding(
            file=folder / name,
            field="file",
            expected="a file",
            got="none",
            remedy="Enrol (wardround site enroll), or name the folder of credentials",
        )
        for name in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)
        if not (folder / name).is_file()
    ]
    if missing:
        return missing
    found = check(read_credentials(folder), now=now)
    return [
        *(replace(finding, file=folder / finding.file) for finding in found),
        *_mode(folder / KEY_FILE),
    ]


def check(credentials: Credentials, *, now: datetime) -> list[Finding]:
    """Return what is wrong with credentials; an empty list when nothing is.

    Args:
        credentials: The bytes of the three files.
        now: The time, with time zone.
    """
    found: list[Finding] = []
    authority = _parsed(CA_FILE, credentials.authority, found)
    certificate = _parsed(CERTIFICATE_FILE, credentials.certificate, found)
    if authority:
        found += _authority(authority, now)
    if certificate:
        found += _signature(certificate, authority)
        found += _times(CERTIFICATE_FILE, certificate, now, remedy=_RENEW)
        found += _holder(certificate, credentials.certificate)
    found += _key(credentials.key, certificate)
    return found


def refuse_faulty(findings: Sequence[Finding], *, what: str) -> None:
    """Pass if no finding is an error.

    Args:
        findings: What `check` or `check_folder` returned.
        what: What they were found in, for the message.

    Raises:
        IdentityError: At least one is; it lists them all.
    """
    errors = [finding.line() for finding in findings if finding.is_error]
    if errors:
        raise IdentityError(f"{what} cannot be used:\n  " + "\n  ".join(errors))


def _parsed(name: str, pem: bytes, found: list[Finding]) -> x509.Certificate | None:
    """Return the one certificate in a file, or None after noting why there is none."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
        for certificate in certificates:
            _ = certificate.extensions  # they are read when first asked for, and may be faulty
        got = f"{len(certificates)}"
    except PARSE_ERRORS as error:
        certificates, got = [], f"bytes that cannot be read ({error!s:.100})"
    if len(certificates) == 1:
        return certificates[0]
    # TLS libraries would trust each of several, of which only one was looked at.
    remedy = "Copy the file anew from where it was made"
    found.append(_finding(name, "content", "one PEM certificate", got, remedy))
    return None


def _authority(authority: x509.Certificate, now: datetime) -> Iterator[Finding]:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
        may_sign = constraints.ca
    except x509.ExtensionNotFound:
        may_sign = False
    if not may_sign:
        yield _finding(
            CA_FILE,
            "basic constraints",
            "the certificate of an authority",
            "one that may not sign others",
            "Ask for the file ca.crt of the folder that wardround ca init made",
        )
    yield from _times(
        CA_FILE, authority, now, remedy="Make an authority anew (wardround ca init) and enrol again"
    )


def _signature(
    certificate: x509.Certificate, authority: x509.Certificate | None
) -> Iterator[Finding]:
    if authority is None:
        return
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        yield _finding(
            CERTIFICATE_FILE,
            "signature",
            f"that of the authority in {CA_FILE} ({authority.subject.rfc4514_string():.100})",
            f"that of another one ({certificate.issuer.rfc4514_string():.100})",
            "Take both files from the same authority",
        )


def _times(
    name: str, certificate: x509.Certificate, now: datetime, *, remedy: str
) -> Iterator[Finding]:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        yield _finding(
            name,
            "not before",
            f"a time up to now ({_time(now)})",
            _time(begins),
            "Set this machine's clock, or wait",
        )
    elif now > ends:
        yield _finding(
            name,
            "not after",
            f"a time from now on ({_time(now)})",
            f"expired {_time(ends)}",
            remedy,
        )
    elif ends - now < EXPIRES_SOON:
        got = f"expires {_time(ends)}"
        finding = _finding(
            name, "not after", f"{EXPIRES_SOON.days} days or more ahead", got, remedy
        )
        yield replace(finding, is_error=False)


def _holder(certificate: x509.Certificate, pem: bytes) -> Iterator[Finding]:
    field = "subject alternative names"
    try:
        identity = identity_of(pem)
    except IdentityError as error:
        got = str(error).rstrip(".")
        yield _finding(CERTIFICATE_FILE, field, "one URI wardround://ROLE/NAME", got, _APPROVE)
        return
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [name for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]
    if identity.role is Role.COORDINATOR and not hosts:
        yield _finding(
            CERTIFICATE_FILE,
            field,
            "the DNS names or addresses under which sites reach the coordinator",
            "none",
            "Invite it again with wardround ca invite --host NAME",
        )
    yield from _usages(certificate, identity)


def _usages(certificate: x509.Certificate, identity: Identity) -> Iterator[Finding]:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        present = set(usages)
    except x509.ExtensionNotFound:
        present = set()
    lacking = [usage for usage in EXTENDED_USAGES[identity.role] if usage not in present]
    if lacking:
        # cryptography gives names of object identifiers no public attribute.
        expected = " and ".join(usage.dotted_string for usage in EXTENDED_USAGES[identity.role])
        got = " and ".join(sorted(usage.dotted_string for usage in present)) or "none"
        yield _finding(CERTIFICATE_FILE, "extended key usage", expected, got, _APPROVE)


def _key(pem: bytes, certificate: x509.Certificate | None) -> Iterator[Finding]:
    try:
        key = load_pem_private_key(pem, password=None)
    except (*PARSE_ERRORS, TypeError):
        yield _finding(
            KEY_FILE,
            "content",
            "one PEM private key without a pass phrase",
            "bytes that cannot be read",
            "Restore the file from a copy, or enrol again into an empty folder",
        )
        return
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certificate and key.public_key().public_bytes(*form) != (
        certificate.public_key().public_bytes(*form)
    ):
        yield _finding(
            KEY_FILE,
            "public key",
            f"that of {CERTIFICATE_FILE}",
            "another",
            f"Put the {CERTIFICATE_FILE} back that was made for this key, or enrol again into an "
            f"empty folder",
        )


def _mode(key_file: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(key_file.stat().st_mode)
    if mode & _OTHERS:
        yield Finding(
            file=key_file,
            field="mode",
            expected="600, readable by its owner alone",
            got=f"{mode:03o}",
            remedy=f"chmod 600 {key_file}; if others use this machine, revoke and enrol again",
        )


def _finding(file: str, field: str, expected: str, got: str, remedy: str) -> Finding:
    return Finding(file=Path(file), field=field, expected=expected, got=got, remedy=remedy)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
