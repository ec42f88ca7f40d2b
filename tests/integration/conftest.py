"""Certificates for tests: an authority, and the credentials it gives to whoever is named."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wardround.shared.identity import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Role, uri_of


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


class Authority:
    """Issues credentials under `root`, one folder each."""

    def __init__(self, root: Path, name: str) -> None:
        self._root, self._name = root / name, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.certificate = builder.sign(self._key, hashes.SHA256())

    def issue(self, role: Role, name: str) -> Path:
        folder = self._root / f"{role}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri_of(role, name))]
        if role is Role.COORDINATOR:
            names.append(x509.DNSName("localhost"))
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        certificate = (
            _builder(name, self._name, key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (folder / CA_FILE).write_bytes(self.certificate.public_bytes(pem))
        (folder / CERTIFICATE_FILE).write_bytes(certificate.public_bytes(pem))
        (folder / KEY_FILE).write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return folder


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return the authority that the study trusts."""
    return Authority(tmp_path / "credentials", "authority")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Return an authority that nobody trusts."""
    return Authority(tmp_path / "credentials", "stranger")
