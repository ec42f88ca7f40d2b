"""What a caller is told when something breaks inside; no network."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wardround.server.presence import Presence
from wardround.server.service import MAX_WAITING, Service
from wardround.server.state import fold
from wardround.shared.errors import JournalError
from wardround.shared.identity import Role, uri_of
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
    """A relay whose every use but the state fails."""

    def __init__(self, state, error: Exception) -> None:
        self.state, self._error = state, error

    def due_site(self):
        raise self._error


def answer(world, error: Exception, context: _Context, revoked=frozenset()):
    async def ask():
        service = Service(
            _Broken(fold(world.events()[:1]), error),
            None,
            Presence(10),
            revoked=lambda: revoked,
            poll_s=0,
            heartbeat_s=10,
        )
        try:
            with pytest.raises(_Aborted) as caught:
                await service.NextOrder(wire.NextOrderRequest(), context)
        finally:
            service.close()
        return (*caught.value.args, service)

    return asyncio.run(ask())


def test_the_text_of_an_unforeseen_error_stays_with_the_coordinator(world, caplog) -> None:
    secret = ValueError("cases/anna.nii.gz")
    code, text, service = answer(world, secret, _Context(certificate(hours=1)))
    assert (code, text) == (grpc.StatusCode.INTERNAL, "")
    assert not service.ended.is_set()
    assert "anna" in caplog.text


def test_a_journal_that_cannot_be_written_ends_the_server_and_sites_wait(world) -> None:
    full = JournalError("journal cannot be written. Make room on the disk.")
    code, text, service = answer(world, full, _Context(certificate(hours=1)))
    assert (code, text) == (grpc.StatusCode.UNAVAILABLE, str(full))
    assert service.ended.is_set()
    assert service.failure is full


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
def test_who_cannot_be_identified_is_refused(world, shown, revoked, words: str) -> None:
    code, text, _ = answer(world, ValueError("not reached"), _Context(*shown), revoked)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert words in text


class _SlowDisk:
    """A partial file that is written to as slowly as the test likes."""

    def __init__(self) -> None:
        self.may_go_on, self.num_written = threading.Event(), 0

    def write(self, chunk: bytes) -> None:
        assert self.may_go_on.wait(10)
        self.num_written += 1


def test_no_more_chunks_are_taken_in_than_may_wait(world) -> None:
    """However large a part is and however slow the disk, few chunks are in memory."""
    disk, num_sent = _SlowDisk(), 0

    async def requests():
        nonlocal num_sent
        while num_sent < 50:
            num_sent += 1
            yield wire.DeliverRequest(chunk=b"x")

    async def take_in() -> int:
        service = Service(
            _Broken(fold(world.events()[:1]), ValueError()),
            None,
            Presence(10),
            revoked=frozenset,
            poll_s=0,
            heartbeat_s=10,
        )
        taking = asyncio.create_task(service._take_in(requests(), disk))
        for _ in range(1000):
            await asyncio.sleep(0)
        held = num_sent
        disk.may_go_on.set()
        await taking
        service.close()
        return held

    assert asyncio.run(take_in()) == 1 + MAX_WAITING  # one is being written
    assert disk.num_written == num_sent == 50
