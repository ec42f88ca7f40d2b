"""Names in certificates, requests and their installation, and what is wrong with credentials."""

import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from wardround.server import authority as authorities
from wardround.server.authority import Authority
from wardround.shared.credential_check import check, check_folder, refuse_faulty
from wardround.shared.enrolment import install, make_request, new_key, read_request
from wardround.shared.errors import IdentityError, UsageError
from wardround.shared.identity import (
    Credentials,
    Role,
    fingerprint,
    identity_of,
    read_credentials,
    uri_of,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
Replace = Callable[..., Credentials]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return authorities.init(tmp_path / "ca", "network", now=NOW)


@pytest.fixture
def site(authority: Authority, tmp_path: Path) -> Path:
    """Return a folder with sound credentials of a site."""
    return enrol(authority, tmp_path / "site")


def enrol(authority: Authority, folder: Path) -> Path:
    token = authority.invite("utrecht", Role.SITE, now=NOW)
    request = make_request(folder, Role.SITE, "utrecht").read_bytes()
    root = (authority.folder / "ca.crt").read_bytes()
    install(folder, authority.approve(request, token, now=NOW), now=NOW, authority=root)
    return folder


def certificate_with(*names: x509.GeneralName) -> tuple[bytes, bytes]:
    """Return a self-signed certificate with these alternative names, and its key."""
    key, pem = new_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 90 * DAY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM), pem


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


@pytest.mark.parametrize("role", Role)
def test_a_certificate_says_who_its_holder_is(role: Role) -> None:
    pem, _ = certificate_with(uri(uri_of(role, "utrecht")))
    identity = identity_of(pem)
    assert (identity.name, identity.role, identity.serial) == ("utrecht", role, 7)
    assert identity.not_after == NOW + 90 * DAY


@pytest.mark.parametrize(
    "spelled",
    [
        "https://site/utrecht",
        "wardround://owner/utrecht",
        "wardround://SITE/utrecht",
        "wardround://site/Utrecht",
        "wardround://site/utrecht/",
        "wardround://site/utrecht?role=operator",
        "wardround://site/utrecht#x",
        "wardround://site/utr\necht",
        "wardround://site/utrecht\n",
        "wardround://[site/utrecht",
        "wardround://site/",
        "",
    ],
)
def test_a_holder_has_one_spelling_only(spelled: str) -> None:
    pem, _ = certificate_with(uri(spelled))
    with pytest.raises(IdentityError, match="expected wardround://ROLE/NAME"):
        identity_of(pem)


@pytest.mark.parametrize("count", [0, 2])
def test_a_certificate_names_one_holder(count: int) -> None:
    names = [x509.DNSName("a.example.org"), *[uri("wardround://site/utrecht")] * count]
    pem, _ = certificate_with(*names)
    with pytest.raises(IdentityError, match=f"hold {count} URIs"):
        identity_of(pem)


def test_bytes_that_are_no_certificate_name_nobody() -> None:
    for read in (identity_of, fingerprint):
        with pytest.raises(IdentityError, match="cannot be read"):
            read(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def test_the_key_is_made_for_its_owner_alone_and_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    first = read_request(make_request(folder, Role.SITE, "utrecht").read_bytes())
    key = (folder / "own.key").read_bytes()
    assert stat.S_IMODE((folder / "own.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    second = read_request(make_request(folder, Role.SITE, "utrecht").read_bytes())
    assert (folder / "own.key").read_bytes() == key
    assert first.public_key == second.public_key
    assert (first.role, first.name) == (Role.SITE, "utrecht")
    assert b"PRIVATE" not in (folder / "own.csr").read_bytes()


@pytest.mark.parametrize("name", ["Utrecht", "1site", "a" * 33, "a b", "", "a\n"])
def test_a_name_that_a_plan_could_not_use_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="name "):
        make_request(tmp_path / "site", Role.SITE, name)
    assert not (tmp_path / "site").exists()


def test_a_folder_belongs_to_one_holder(site: Path) -> None:
    with pytest.raises(IdentityError, match="each holder has its own"):
        make_request(site, Role.EVALUATOR, "utrecht")


def test_a_certificate_for_another_key_is_not_installed(
    authority: Authority, site: Path, tmp_path: Path
) -> None:
    other = enrol(authority, tmp_path / "other")
    before = (site / "own.crt").read_bytes()
    with pytest.raises(IdentityError, match=r"own\.key, public key: expected that of own\.crt"):
        install(site, (other / "own.crt").read_bytes(), now=NOW)
    assert (site / "own.crt").read_bytes() == before


def test_a_certificate_for_another_role_is_not_installed(
    authority: Authority, tmp_path: Path
) -> None:
    folder, token = tmp_path / "site", authority.invite("utrecht", Role.OPERATOR, now=NOW)
    asked = make_request(folder, Role.OPERATOR, "utrecht").read_bytes()
    certificate = authority.approve(asked, token, now=NOW)
    make_request(folder, Role.SITE, "utrecht")
    root = (authority.folder / "ca.crt").read_bytes()
    with pytest.raises(IdentityError, match="expected wardround://site/utrecht"):
        install(folder, certificate, now=NOW, authority=root)
    assert not (folder / "own.crt").exists()
    assert not (folder / "ca.crt").exists()


def test_whom_a_folder_trusts_is_not_changed_in_passing(site: Path, tmp_path: Path) -> None:
    other = authorities.init(tmp_path / "other-ca", "network", now=NOW)
    root = (other.folder / "ca.crt").read_bytes()
    before = (site / "ca.crt").read_bytes()
    with pytest.raises(IdentityError, match="another authority's certificate"):
        install(site, (site / "own.crt").read_bytes(), now=NOW, authority=root)
    assert (site / "ca.crt").read_bytes() == before


def test_the_first_certificate_comes_with_an_authority_to_trust(
    authority: Authority, tmp_path: Path
) -> None:
    token = authority.invite("utrecht", Role.SITE, now=NOW)
    asked = make_request(tmp_path / "site", Role.SITE, "utrecht").read_bytes()
    with pytest.raises(IdentityError, match="--ca"):
        install(tmp_path / "site", authority.approve(asked, token, now=NOW), now=NOW)


def changed(folder: Path, **files: bytes) -> Credentials:
    sound = read_credentials(folder)
    return Credentials(
        authority=files.get("authority", sound.authority),
        certificate=files.get("certificate", sound.certificate),
        key=files.get("key", sound.key),
    )


def fields(credentials: Credentials, now: datetime = NOW) -> list[tuple[str, str, bool]]:
    found = check(credentials, now=now)
    assert all(finding.expected and finding.got and finding.remedy for finding in found)
    return [(finding.file.name, finding.field, finding.is_error) for finding in found]


def test_sound_credentials_have_no_finding(site: Path) -> None:
    assert check_folder(site, now=NOW) == []
    refuse_faulty([], what="credentials")


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOW - timedelta(minutes=5), []),
        (NOW - timedelta(minutes=6), [("not before", True)]),
        (NOW + 76 * DAY, []),
        (NOW + 76 * DAY + timedelta(seconds=1), [("not after", False)]),
        (NOW + 90 * DAY, [("not after", False)]),
        (NOW + 90 * DAY + timedelta(seconds=1), [("not after", True)]),
    ],
)
def test_times_are_judged_to_the_second(
    site: Path, now: datetime, expected: list[tuple[str, bool]]
) -> None:
    found = [(field, bad) for name, field, bad in fields(changed(site), now) if name == "own.crt"]
    assert found == expected


def test_an_expired_authority_is_found_beside_what_it_signed(site: Path) -> None:
    assert fields(changed(site), NOW + 3651 * DAY) == [
        ("ca.crt", "not after", True),
        ("own.crt", "not after", True),
    ]


def test_a_certificate_of_another_authority_of_the_same_name_is_found(
    site: Path, tmp_path: Path
) -> None:
    other = authorities.init(tmp_path / "other-ca", "network", now=NOW)
    root = (other.folder / "ca.crt").read_bytes()
    assert fields(changed(site, authority=root)) == [("own.crt", "signature", True)]


def test_a_holder_cannot_stand_as_an_authority(site: Path) -> None:
    own = read_credentials(site).certificate
    assert ("ca.crt", "basic constraints", True) in fields(changed(site, authority=own))


def test_a_key_that_does_not_fit_is_found(site: Path) -> None:
    _, other = new_key(ec.SECP256R1())
    assert fields(changed(site, key=other)) == [("own.key", "public key", True)]


@pytest.mark.parametrize(
    ("part", "name"),
    [("authority", "ca.crt"), ("certificate", "own.crt"), ("key", "own.key")],
)
def test_bytes_that_cannot_be_read_are_found(site: Path, part: str, name: str) -> None:
    assert fields(changed(site, **{part: b"nothing"})) == [(name, "content", True)]


def test_a_second_authority_in_the_file_is_found(site: Path, tmp_path: Path) -> None:
    other = authorities.init(tmp_path / "other-ca", "network", now=NOW)
    both = (site / "ca.crt").read_bytes() + (other.folder / "ca.crt").read_bytes()
    assert fields(changed(site, authority=both)) == [("ca.crt", "content", True)]


@pytest.mark.parametrize("uris", [[], ["wardround://site/a", "wardround://site/b"]], ids=len)
def test_no_or_several_holders_are_found(uris: list[str]) -> None:
    pem, key = certificate_with(*map(uri, uris))
    credentials = Credentials(authority=pem, certificate=pem, key=key)
    assert ("own.crt", "subject alternative names", True) in fields(credentials)


@pytest.mark.parametrize(
    ("hosts", "is_found"), [([], True), ([x509.DNSName("relay.example.org")], False)]
)
def test_a_coordinator_without_host_names_is_found(
    hosts: list[x509.GeneralName], is_found: bool
) -> None:
    pem, key = certificate_with(uri("wardround://coordinator/hub"), *hosts)
    found = fields(Credentials(authority=pem, certificate=pem, key=key))
    assert (("own.crt", "subject alternative names", True) in found) is is_found
    assert ("own.crt", "extended key usage", True) in found  # it has none at all


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_is_found(site: Path, mode: int) -> None:
    (site / "own.key").chmod(mode)
    (finding,) = check_folder(site, now=NOW)
    assert finding.file == site / "own.key"
    assert finding.got == f"{mode:03o}"
    assert "chmod 600" in finding.line()


def test_missing_files_are_found_one_by_one(site: Path) -> None:
    (site / "ca.crt").unlink()
    (site / "own.key").unlink()
    found = [finding.file.name for finding in check_folder(site, now=NOW)]
    assert found == ["ca.crt", "own.key"]


def test_warnings_alone_do_not_refuse_and_errors_come_all_together(site: Path) -> None:
    refuse_faulty(check_folder(site, now=NOW + 80 * DAY), what="credentials")
    found = check_folder(site, now=NOW + 3651 * DAY)
    with pytest.raises(IdentityError, match=r"(?s)credentials cannot be used.*ca\.crt.*own\.crt"):
        refuse_faulty(found, what="credentials")
