"""Who gets a certificate, what is in it, and what a revocation reaches."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from wardround.server import authority as authorities
from wardround.server import register as registers
from wardround.server.authority import Authority
from wardround.shared.enrolment import make_request
from wardround.shared.errors import IdentityError, UsageError
from wardround.shared.identity import Role, identity_of

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
Kind = TypeVar("Kind", bound=x509.ExtensionType)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return authorities.init(tmp_path / "ca", "network", now=NOW)


@pytest.fixture
def register(authority: Authority) -> Path:
    return authority.folder / "register.jsonl"


def request_in(folder: Path, name: str = "utrecht", role: Role = Role.SITE) -> bytes:
    return make_request(folder, role, name).read_bytes()


def enrolled(authority: Authority, folder: Path, name: str = "utrecht") -> bytes:
    token = authority.invite(name, Role.SITE, now=NOW)
    return authority.approve(request_in(folder, name), token, now=NOW)


def extension(pem: bytes, kind: type[Kind]) -> x509.Extension[Kind]:
    return x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(kind)


def signed_request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *uris: str) -> bytes:
    names = [x509.UniformResourceIdentifier(uri) for uri in uris]
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def test_the_authority_may_sign_holders_and_no_other_authority(authority: Authority) -> None:
    pem = (authority.folder / "ca.crt").read_bytes()
    certificate = x509.load_pem_x509_certificate(pem)
    certificate.verify_directly_issued_by(certificate)
    constraints = extension(pem, x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = extension(pem, x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature
    assert certificate.not_valid_after_utc == NOW + 3650 * DAY


def test_a_site_gets_a_certificate_that_serves_for_dialling_out_alone(
    authority: Authority, tmp_path: Path
) -> None:
    pem = enrolled(authority, tmp_path / "site")
    certificate = x509.load_pem_x509_certificate(pem)
    root = x509.load_pem_x509_certificate((authority.folder / "ca.crt").read_bytes())
    certificate.verify_directly_issued_by(root)
    assert identity_of(pem).name == "utrecht"
    assert identity_of(pem).role is Role.SITE
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == NOW + 90 * DAY
    assert list(extension(pem, x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert extension(pem, x509.BasicConstraints).value.ca is False
    assert extension(pem, x509.KeyUsage).value.digital_signature
    assert not extension(pem, x509.KeyUsage).value.key_cert_sign
    signer = extension(root.public_bytes(Encoding.PEM), x509.SubjectKeyIdentifier).value.digest
    assert extension(pem, x509.AuthorityKeyIdentifier).value.key_identifier == signer
    assert extension(pem, x509.SubjectKeyIdentifier).value.digest != signer


def test_a_coordinator_gets_the_hosts_of_its_invitation_and_serves_both_ends(
    authority: Authority, tmp_path: Path
) -> None:
    hosts = ("relay.example.org", "10.0.0.7")
    token = authority.invite("hub", Role.COORDINATOR, now=NOW, hosts=hosts)
    pem = authority.approve(request_in(tmp_path / "hub", "hub", Role.COORDINATOR), token, now=NOW)
    names = extension(pem, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["relay.example.org"]
    assert names.get_values_for_type(x509.IPAddress) == [IPv4Address("10.0.0.7")]
    assert set(extension(pem, x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }


def test_nothing_that_a_request_asks_for_beyond_its_holder_is_granted(
    authority: Authority,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        x509.UniformResourceIdentifier("wardround://site/utrecht"),
        x509.DNSName("relay.example.org"),
    ]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    pem = authority.approve(request, authority.invite("utrecht", Role.SITE, now=NOW), now=NOW)
    assert extension(pem, x509.BasicConstraints).value.ca is False
    hosts = extension(pem, x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert hosts == []


@pytest.mark.parametrize(
    ("role", "hosts"),
    [
        (Role.COORDINATOR, ()),
        (Role.SITE, ("relay.example.org",)),
        (Role.COORDINATOR, ("https://relay.example.org",)),
        (Role.COORDINATOR, ("relay.example.org:443",)),
        (Role.COORDINATOR, ("*.example.org",)),
        (Role.COORDINATOR, ("Relay.example.org",)),
        (Role.COORDINATOR, ("10.0.0.256",)),
        (Role.COORDINATOR, ("relay.example.org\n",)),
        (Role.COORDINATOR, ("",)),
    ],
)
def test_an_invitation_with_wrong_hosts_is_refused_before_it_is_noted(
    authority: Authority, register: Path, role: Role, hosts: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match="host"):
        authority.invite("hub", role, now=NOW, hosts=hosts)
    assert register.read_bytes() == b""


@pytest.mark.parametrize("days", [0, 91])
def test_an_invitation_is_good_for_1_to_90_days(authority: Authority, days: int) -> None:
    with pytest.raises(UsageError, match=f"{days} days, expected 1 to 90"):
        authority.invite("utrecht", Role.SITE, now=NOW, days=days)


@pytest.mark.parametrize("days", [0, 398])
def test_a_certificate_is_valid_for_1_to_397_days(
    authority: Authority, tmp_path: Path, days: int
) -> None:
    token = authority.invite("utrecht", Role.SITE, now=NOW)
    request = request_in(tmp_path / "site")
    with pytest.raises(UsageError, match=f"{days} days, expected 1 to 397"):
        authority.approve(request, token, now=NOW, days=days)
    authority.approve(request, token, now=NOW)  # the token was not spent


def test_a_used_token_gives_its_holder_the_same_certificate_and_others_none(
    authority: Authority, tmp_path: Path
) -> None:
    token = authority.invite("utrecht", Role.SITE, now=NOW)
    request = request_in(tmp_path / "site")
    first = authority.approve(request, token, now=NOW)
    assert authority.approve(request, token, now=NOW + 30 * DAY) == first
    assert len(authority.issued()) == 1
    with pytest.raises(IdentityError, match="was used already"):
        authority.approve(request_in(tmp_path / "thief"), token, now=NOW)


def test_a_used_token_does_not_bring_a_revoked_certificate_back(
    authority: Authority, tmp_path: Path
) -> None:
    token = authority.invite("utrecht", Role.SITE, now=NOW)
    request = request_in(tmp_path / "site")
    authority.approve(request, token, now=NOW)
    authority.revoke("utrecht", now=NOW)
    with pytest.raises(IdentityError, match="was used already"):
        authority.approve(request, token, now=NOW)


def test_a_token_expires(authority: Authority, tmp_path: Path) -> None:
    token = authority.invite("utrecht", Role.SITE, now=NOW, days=2)
    request = request_in(tmp_path / "site")
    with pytest.raises(IdentityError, match=r"expired 2030-01-03 12:00 UTC"):
        authority.approve(request, token, now=NOW + 2 * DAY + timedelta(seconds=1))
    authority.approve(request, token, now=NOW + 2 * DAY)


@pytest.mark.parametrize(("name", "role"), [("leiden", Role.SITE), ("utrecht", Role.OPERATOR)])
def test_a_token_is_good_for_its_name_and_role_alone(
    authority: Authority, tmp_path: Path, name: str, role: Role
) -> None:
    token = authority.invite("utrecht", Role.SITE, now=NOW)
    with pytest.raises(IdentityError, match="expected wardround://site/utrecht"):
        authority.approve(request_in(tmp_path / "other", name, role), token, now=NOW)
    assert authority.issued() == ()


def test_an_unknown_token_is_refused(authority: Authority, tmp_path: Path) -> None:
    authority.invite("utrecht", Role.SITE, now=NOW)
    with pytest.raises(IdentityError, match="not one of this authority's"):
        authority.approve(request_in(tmp_path / "site"), "0" * 32, now=NOW)


def test_a_later_invitation_makes_the_earlier_token_void(
    authority: Authority, tmp_path: Path
) -> None:
    first = authority.invite("utrecht", Role.SITE, now=NOW)
    elsewhere = authority.invite("utrecht", Role.EVALUATOR, now=NOW)
    second = authority.invite("utrecht", Role.SITE, now=NOW)
    request = request_in(tmp_path / "site")
    with pytest.raises(IdentityError, match="replaced by a later one"):
        authority.approve(request, first, now=NOW)
    authority.approve(request, second, now=NOW)
    evaluator = request_in(tmp_path / "evaluator", role=Role.EVALUATOR)
    authority.approve(evaluator, elsewhere, now=NOW)  # another role, another invitation


def test_a_request_whose_signature_is_not_that_of_its_key_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    token = authority.invite("utrecht", Role.SITE, now=NOW)
    der = bytearray(
        x509.load_pem_x509_csr(request_in(tmp_path / "site")).public_bytes(Encoding.DER)
    )
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    with pytest.raises(IdentityError, match="signature is not that of its key"):
        authority.approve(forged, token, now=NOW)


def test_a_request_with_another_kind_of_key_is_refused(authority: Authority) -> None:
    token = authority.invite("utrecht", Role.SITE, now=NOW)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(IdentityError, match="another kind than P-256 or P-384"):
        authority.approve(signed_request(key, "wardround://site/utrecht"), token, now=NOW)


@pytest.mark.parametrize(
    "uris", [(), ("wardround://site/utrecht", "wardround://operator/utrecht")], ids=len
)
def test_a_request_that_names_nobody_or_two_is_refused(
    authority: Authority, uris: tuple[str, ...]
) -> None:
    token = authority.invite("utrecht", Role.SITE, now=NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(IdentityError, match=f"{len(uris)} URIs"):
        authority.approve(signed_request(key, *uris), token, now=NOW)


def test_one_key_cannot_be_of_two_holders(authority: Authority, tmp_path: Path) -> None:
    enrolled(authority, tmp_path / "site")
    token = authority.invite("leiden", Role.SITE, now=NOW)
    with pytest.raises(IdentityError, match="has the key of wardround://site/utrecht"):
        authority.approve(request_in(tmp_path / "site", "leiden"), token, now=NOW)


def test_a_revoked_key_gets_no_certificate_from_a_later_invitation(
    authority: Authority, tmp_path: Path
) -> None:
    enrolled(authority, tmp_path / "site")
    authority.revoke("utrecht", now=NOW)
    token = authority.invite("utrecht", Role.SITE, now=NOW)
    with pytest.raises(IdentityError, match="which is revoked, expected another key"):
        authority.approve(request_in(tmp_path / "site"), token, now=NOW)
    authority.approve(request_in(tmp_path / "afresh"), token, now=NOW)


def test_renewal_goes_on_with_key_holder_and_hosts(authority: Authority, tmp_path: Path) -> None:
    folder, later = tmp_path / "hub", NOW + 80 * DAY
    token = authority.invite("hub", Role.COORDINATOR, now=NOW, hosts=["10.0.0.7"])
    request = request_in(folder, "hub", Role.COORDINATOR)
    old = authority.approve(request, token, now=NOW)
    renewed = authority.renew(request, old, now=later)
    first, second = map(x509.load_pem_x509_certificate, (old, renewed))
    assert second.public_key() == first.public_key()
    assert second.serial_number != first.serial_number
    assert second.not_valid_after_utc == later + 90 * DAY
    names = extension(renewed, x509.SubjectAlternativeName).value
    assert names == extension(old, x509.SubjectAlternativeName).value
    assert [one.token_sha256 is None for one in authority.issued()] == [False, True]


def test_renewal_needs_the_key_of_the_old_certificate(authority: Authority, tmp_path: Path) -> None:
    old = enrolled(authority, tmp_path / "site")
    with pytest.raises(IdentityError, match="has another key than certificate"):
        authority.renew(request_in(tmp_path / "thief"), old, now=NOW)


@pytest.mark.parametrize(("name", "role"), [("leiden", Role.SITE), ("utrecht", Role.OPERATOR)])
def test_renewal_does_not_change_name_or_role(
    authority: Authority, tmp_path: Path, name: str, role: Role
) -> None:
    old = enrolled(authority, tmp_path / "site")
    other = request_in(tmp_path / "site", name, role)  # the same key asks to be somebody else
    with pytest.raises(IdentityError, match="expected wardround://site/utrecht"):
        authority.renew(other, old, now=NOW)


def test_an_expired_or_revoked_certificate_is_not_renewed(
    authority: Authority, tmp_path: Path
) -> None:
    old = enrolled(authority, tmp_path / "site")
    request = request_in(tmp_path / "site")
    with pytest.raises(IdentityError, match="expired 2030-04-01"):
        authority.renew(request, old, now=NOW + 91 * DAY)
    authority.revoke("utrecht", now=NOW)
    with pytest.raises(IdentityError, match="is revoked"):
        authority.renew(request, old, now=NOW)


def test_a_certificate_of_another_authority_is_not_renewed(
    authority: Authority, tmp_path: Path
) -> None:
    other = authorities.init(tmp_path / "other", "network", now=NOW)
    old = enrolled(other, tmp_path / "site")
    with pytest.raises(IdentityError, match="not in the register"):
        authority.renew(request_in(tmp_path / "site"), old, now=NOW)


def test_revoking_a_name_reaches_every_role_and_open_invitation(
    authority: Authority, tmp_path: Path
) -> None:
    enrolled(authority, tmp_path / "site")
    enrolled(authority, tmp_path / "leiden", "leiden")
    token = authority.invite("utrecht", Role.EVALUATOR, now=NOW)
    evaluator = request_in(tmp_path / "evaluator", role=Role.EVALUATOR)
    authority.approve(evaluator, token, now=NOW)
    unused = authority.invite("utrecht", Role.OPERATOR, now=NOW)
    gone = authority.revoke("utrecht", now=NOW)
    assert [(one.name, one.role) for one in gone] == [
        ("utrecht", Role.SITE),
        ("utrecht", Role.EVALUATOR),
    ]
    assert authority.revoked_serials() == {one.serial for one in gone}
    assert authority.open_invitations(now=NOW) == ()
    with pytest.raises(IdentityError, match="was withdrawn"):
        authority.approve(request_in(tmp_path / "operator", role=Role.OPERATOR), unused, now=NOW)


def test_revoking_a_serial_number_reaches_all_certificates_of_its_key(
    authority: Authority, tmp_path: Path
) -> None:
    old = enrolled(authority, tmp_path / "site")
    renewed = authority.renew(request_in(tmp_path / "site"), old, now=NOW)
    another_key = enrolled(authority, tmp_path / "afresh")
    authority.revoke(registers.serial_text(identity_of(old).serial), now=NOW)
    expected = {identity_of(old).serial, identity_of(renewed).serial}
    assert authority.revoked_serials() == expected
    assert identity_of(another_key).serial not in expected


@pytest.mark.parametrize("which", ["leiden", "0" * 40, "utrech", ""])
def test_revoking_what_is_not_there_is_an_error(
    authority: Authority, tmp_path: Path, which: str
) -> None:
    enrolled(authority, tmp_path / "site")
    with pytest.raises(IdentityError, match="left to revoke"):
        authority.revoke(which, now=NOW)
    assert authority.revoked_serials() == frozenset()


def test_a_certificate_does_not_outlive_its_authority(authority: Authority, tmp_path: Path) -> None:
    end = NOW + 3650 * DAY
    token = authority.invite("utrecht", Role.SITE, now=end - 3 * DAY)
    pem = authority.approve(request_in(tmp_path / "site"), token, now=end - DAY)
    assert identity_of(pem).not_after == end
    second = authority.invite("leiden", Role.SITE, now=end)
    with pytest.raises(IdentityError, match="expired 2039-12-30"):
        authority.approve(
            request_in(tmp_path / "leiden", "leiden"), second, now=end + timedelta(seconds=1)
        )


def test_a_key_that_is_not_the_authoritys_signs_nothing(
    authority: Authority, tmp_path: Path
) -> None:
    other = authorities.init(tmp_path / "other", "network", now=NOW)
    (authority.folder / "ca.key").write_bytes((other.folder / "ca.key").read_bytes())
    with pytest.raises(IdentityError, match=r"is not the key of"):
        enrolled(authority, tmp_path / "site")
    assert authority.issued() == ()
