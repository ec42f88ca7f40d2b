"""What a certificate of the study network holds: pure functions of key, holder and time (RFC 5280).

Keys are elliptic: P-384 for the authority, which lives for years, P-256 for holders, which TLS
libraries everywhere compute fastest.
"""

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wardround.shared.errors import UsageError
from wardround.shared.identity import EXTENDED_USAGES, Role, uri_of

AUTHORITY_DAYS = 3650
BACKDATE = timedelta(minutes=5)  # clocks of two hospitals are seldom further apart
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")


def authority_certificate(
    name: str, key: ec.EllipticCurvePrivateKey, *, now: datetime
) -> x509.Certificate:
    """Return the certificate with which an authority vouches for itself, valid for ten years."""
    subject = _common_name(name)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA384())
    )


def holder_certificate(
    public_key: ec.EllipticCurvePublicKey,
    *,
    role: Role,
    name: str,
    hosts: Sequence[str],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    days: int,
) -> x509.Certificate:
    """Return a certificate that says: who has this key is ROLE NAME.

    Args:
        public_key: The holder's.
        role: What it may do; decides for which end of a connection the certificate serves.
        name: Who it is.
        hosts: DNS names and addresses under which it is reached; of a coordinator alone.
        authority: Whose signature is under it. The certificate does not outlive it.
        authority_key: The authority's private key.
        now: When it is made; it is valid from five minutes before.
        days: How long it is valid.
    """
    signer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    names = [x509.UniformResourceIdentifier(uri_of(role, name)), *map(_host, hosts)]
    return (
        x509.CertificateBuilder()
        .subject_name(_common_name(name))
        .issuer_name(authority.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(now + timedelta(days=days), authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(EXTENDED_USAGES[role]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), critical=False
        )
        .sign(authority_key, hashes.SHA384())
    )


def check_hosts(hosts: Sequence[str]) -> None:
    """Check that each host can stand in a certificate.

    Raises:
        UsageError: One is neither a DNS name in lower case nor an IP address.
    """
    for host in hosts:
        _host(host)


def _host(host: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError as error:
        # What ends in a number is a mistyped address, never a name (RFC 1123, 2.1).
        if _DNS_NAME.fullmatch(host) and not host.rpartition(".")[2].isdigit():
            return x509.DNSName(host)
        raise UsageError(
            f"host '{host:.100}' is neither a DNS name in lower case nor an IP address. Give what "
            f"sites dial, without scheme and port, such as coordinator.example.org or 10.0.0.7."
        ) from error


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
