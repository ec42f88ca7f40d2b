"""What a caller is told when something breaks inside; no network."""

import asyncio
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wardround.server.admission import Admission
from wardround.server.authority import Authority, init
from wardround.server.journal import Journal
from wardround.server.live_study import LiveStudy
from wardround.server.presence import Presence
from wardround.server.relay import Relay
from wardround.server.revocations import Revocations
from wardround.server.service import Service
from wardround.server.state import fold
from wardround.server.store import ArtefactStore
from wardround.shared.enrolment import make_request
from wardround.shared.errors import JournalError
from wardround.shared.identity import Role, identity_of, uri_of
from wardround.shared.study_api import Stop, Withdraw
from wardround.shared.trail import Trail
from wardround.wire.v1 import relay_pb2 as wire


def certificate(*, hours: int) -> bytes:
    """A certificate of site 'ada' that runs for so many hours; negative: ended so long ago."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ada")])
    holder = x509.UniformResourceIdentifier(uri_of(Role.SITE, "ada"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(hours=hours))
        .add_extension(x509.SubjectAlternativeName([holder]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


class _Aborted(grpc.aio.AbortError):
    pass


class _Context:
    """The context of one call."""

    def __init__(self, *certificates: bytes) -> None:
        self._certificates = certificates

    def auth_context(self):
        return {"x509_pem_cert": self._certificates} if self._certificates else {}

    async def abort(self, code, text):
        raise _Aborted(code, text)


class _Broken:
    """A relay that fails when it is asked what is due."""

    def __init__(self, state, error: Exception) -> None:
        self.state, self._error = state, error

    def settle(self):
        """Nothing has ended."""

    def due(self):
        raise self._error


def answer(world, error: Exception):
    async def ask():
        study = LiveStudy(_Broken(fold(world.events()[:1]), error), Presence(10))
        service = Service(study, None, poll_s=0, heartbeat_s=10)
        try:
            with pytest.raises(_Aborted) as caught:
                await service.NextOrder(wire.NextOrderRequest(), _Context(certificate(hours=1)))
        finally:
            service.close()
            study.close()
        return (*caught.value.args, study)

    return asyncio.run(ask())


def refusal(context: _Context, revoked) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(_Aborted) as caught:
        asyncio.run(Admission(revoked).admit(context))
    return caught.value.args


def test_the_text_of_an_unforeseen_error_stays_with_the_coordinator(world, caplog) -> None:
    secret = ValueError("cases/anna.nii.gz")
    code, text, study = answer(world, secret)
    assert (code, text) == (grpc.StatusCode.INTERNAL, "")
    assert not study.ended.is_set()
    assert "anna" in caplog.text


def test_a_journal_that_cannot_be_written_ends_the_server_and_sites_wait(world) -> None:
    full = JournalError("journal cannot be written. Make room on the disk.")
    code, text, study = answer(world, full)
    assert (code, text) == (grpc.StatusCode.UNAVAILABLE, str(full))
    assert study.ended.is_set()
    assert study.failure is full


@pytest.mark.parametrize(
    ("shown", "revoked", "words"),
    [
        ((), frozenset(), "shows no certificate"),
        ((b"no certificate",), frozenset(), "cannot be read"),
        ((certificate(hours=-1),), frozenset(), "expired on"),
        ((certificate(hours=1),), frozenset({7}), "was revoked"),
    ],
    ids=["none", "unreadable", "expired", "revoked"],
)
def test_who_cannot_be_identified_is_refused(shown, revoked, words: str) -> None:
    code, text = refusal(_Context(*shown), lambda: revoked)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert words in text


def test_nobody_is_let_in_while_the_revoked_cannot_be_read(tmp_path, caplog) -> None:
    """It is the coordinator that is at fault, so a site waits until it is mended."""
    context = _Context(certificate(hours=1))
    code, text = refusal(context, Revocations(tmp_path))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "cannot read which certificates were revoked" in text
    assert str(tmp_path) not in text
    assert str(tmp_path) in caplog.text


def test_the_register_is_read_again_when_it_has_changed(tmp_path, monkeypatch) -> None:
    now = datetime.now(UTC)
    authority = init(tmp_path / "ca", "network", now=now)
    revoked, reads = Revocations(tmp_path / "ca"), []
    read = Authority.revoked_serials
    monkeypatch.setattr(Authority, "revoked_serials", lambda self: reads.append(self) or read(self))
    assert revoked() == revoked() == frozenset()
    assert len(reads) == 1

    token = authority.invite("ada", Role.SITE, now=now)
    request = make_request(tmp_path / "ada", Role.SITE, "ada").read_bytes()
    serial = identity_of(authority.approve(request, token, now=now)).serial
    authority.revoke("ada", now=now)
    assert revoked() == revoked() == {serial}
    assert len(reads) == 2


def test_a_site_withdrawn_from_a_study_that_goes_on_does_not_end_the_serving(
    world, tmp_path
) -> None:
    async def withdraw() -> None:
        study = LiveStudy(world.relay(tmp_path), Presence(10))
        try:
            for site_id in ("ada", "ben"):
                await study.change(Withdraw(site_id), "anna")
                study.tell_ended(site_id)
            assert not study.complete.is_set()
            assert not study.ended.is_set()
            await study.change(Stop(), "anna")
            assert study.complete.is_set()
            assert not study.ended.is_set()
            study.tell_ended("cai")
            assert study.ended.is_set()
        finally:
            study.close()

    asyncio.run(withdraw())


def test_a_study_in_which_nothing_is_left_to_do_is_complete_when_it_is_served(
    world, tmp_path
) -> None:
    """As after a coordinator that was killed before it noted the end."""
    with Journal(tmp_path / "journal") as journal:
        for event in world.events()[:-1]:
            journal.append(event)

    async def serve() -> None:
        with Journal(tmp_path / "journal") as journal:
            trail = Trail(tmp_path / "audit", holder="hub")
            study = LiveStudy(Relay(journal, ArtefactStore(tmp_path), trail), Presence(10))
            study.close()
            assert study.complete.is_set()
            assert journal.events == tuple(world.events())

    asyncio.run(serve())
