"""The site's link against a stub that breaks; no connection is ever made."""

from types import SimpleNamespace

import grpc
import pytest

from wardround.shared.checkpoint import part_ref
from wardround.shared.connection import LONGEST_PAUSE_S, Connection
from wardround.shared.errors import (
    CheckpointError,
    ConnectionLost,
    IdentityError,
    StaleLease,
    WardroundError,
    WireError,
)
from wardround.shared.identity import Credentials
from wardround.site_client.dial import RelayLink
from wardround.wire.v1 import relay_pb2 as wire

DATA = bytes(range(256)) * 10
PART = part_ref("denoiser", DATA)
Code = grpc.StatusCode


class Fault(grpc.RpcError, grpc.Call):
    """What a call raises."""

    __abstractmethods__ = frozenset()

    def __init__(self, code: Code, text: str = "") -> None:
        super().__init__()
        self._code, self._text = code, text

    def code(self) -> Code:
        return self._code

    def details(self) -> str:
        return self._text


Fault.__abstractmethods__ = frozenset()


class Lease:
    """A lease that says how often it was renewed."""

    token = "first"

    def renew(self) -> None:
        self.token = "second"

    def call(self, what, act):
        return act(self.token)


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def connection(slept: list[float]):
    nobody = Credentials(authority=b"", certificate=b"", key=b"")
    with Connection("127.0.0.1:1", nobody, sleep=slept.append, draw=lambda: 0.5) as made:
        yield made


def test_only_an_answer_is_told_as_one(connection) -> None:
    told = []
    connection.on_answer = lambda: told.append(len(outcomes))
    outcomes = [Fault(Code.UNAVAILABLE, "no route"), Fault(Code.UNAVAILABLE, "no route"), None]

    def act() -> None:
        if (fault := outcomes.pop(0)) is not None:
            raise fault

    connection.call("registering", act)
    assert told == [0]
    outcomes = [Fault(Code.PERMISSION_DENIED, "not yours")]
    with pytest.raises(IdentityError):
        connection.call("registering", act)
    assert told == [0]


class Stream:
    """An answer of many messages that may end in a fault."""

    def __init__(self, chunks, fault=None) -> None:
        self.chunks, self.fault = chunks, fault

    def __iter__(self):
        yield from self.chunks
        if self.fault is not None:
            raise self.fault

    def cancel(self) -> None:
        pass


def link(connection, stub) -> RelayLink:
    fetch, deliver = getattr(stub, "Fetch", None), getattr(stub, "Deliver", None)
    coordinator = SimpleNamespace(connection=connection, stub=stub, fetch=fetch)
    return RelayLink(coordinator, Lease(), heart=None, deliver=deliver)


def test_a_download_goes_on_where_it_broke_under_a_new_lease_if_need_be(connection, slept) -> None:
    asked = []
    streams = [
        Stream([DATA[:100]], Fault(Code.UNAVAILABLE, "Socket closed")),
        Stream([], Fault(Code.FAILED_PRECONDITION, "stale")),
        Stream([DATA[100:600]], Fault(Code.INTERNAL, "RST_STREAM")),
        Stream([DATA[600:]]),
    ]

    def fetch(request):
        asked.append((request.token, request.offset))
        return streams[len(asked) - 1]

    assert b"".join(link(connection, SimpleNamespace(Fetch=fetch)).fetch(PART)) == DATA
    assert asked == [("first", 0), ("first", 100), ("second", 100), ("second", 600)]
    assert len(slept) == 2


def test_a_download_that_ends_too_soon_is_not_asked_for_without_end(connection) -> None:
    stub = SimpleNamespace(Fetch=lambda request: Stream([DATA[:-1]]))
    assert b"".join(link(connection, stub).fetch(PART)) == DATA[:-1]


class Uploads:
    """The coordinator's half of an upload; each delivery may end in a fault."""

    def __init__(self, *faults: Fault | None) -> None:
        self.faults, self.kept, self.offsets = list(faults), b"", []

    def Offer(self, request, timeout):  # noqa: N802
        return wire.OfferResponse(offset=len(self.kept), is_stored=self.kept == DATA)

    def Deliver(self, requests):  # noqa: N802
        first, *rest = list(requests)
        self.offsets.append(first.offset)
        fault = self.faults.pop(0) if self.faults else None
        sent = b"".join(rest)
        if fault is None:
            self.kept += sent
        elif fault.code() is Code.DATA_LOSS:
            self.kept = b""
            raise fault
        else:
            self.kept += sent[: len(sent) // 2]
            raise fault


def deliver(connection, uploads: Uploads) -> None:
    link(connection, uploads).deliver(b"announcement", "denoiser", DATA)


def test_an_upload_goes_on_where_it_broke(connection) -> None:
    uploads = Uploads(Fault(Code.UNAVAILABLE), Fault(Code.UNAVAILABLE))
    deliver(connection, uploads)
    assert uploads.kept == DATA
    assert uploads.offsets == [0, 1280, 1920]


def test_what_is_there_already_is_not_sent(connection) -> None:
    uploads = Uploads()
    uploads.kept = DATA
    deliver(connection, uploads)
    assert uploads.offsets == []


def test_an_upload_on_a_damaged_beginning_starts_over_once(connection) -> None:
    uploads = Uploads(Fault(Code.DATA_LOSS, "damaged"))
    uploads.kept = b"damaged"
    deliver(connection, uploads)
    assert uploads.offsets == [7, 0]

    with pytest.raises(CheckpointError, match="damaged"):
        deliver(connection, Uploads(Fault(Code.DATA_LOSS, "damaged")))


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (Code.UNAVAILABLE, "Socket closed", ConnectionLost),
        (Code.DEADLINE_EXCEEDED, "", ConnectionLost),
        (Code.INTERNAL, "RST_STREAM", ConnectionLost),
        (Code.INTERNAL, "", WireError),
        (Code.UNAVAILABLE, "... CERTIFICATE_VERIFY_FAILED ...", IdentityError),
        (Code.UNAUTHENTICATED, "revoked", IdentityError),
        (Code.PERMISSION_DENIED, "not yours", IdentityError),
        (Code.FAILED_PRECONDITION, "stale", StaleLease),
        (Code.INVALID_ARGUMENT, "wrong", WireError),
        (Code.DATA_LOSS, "damaged", CheckpointError),
        (Code.RESOURCE_EXHAUSTED, "too long", WireError),
    ],
)
def test_each_status_is_an_error_of_ours(
    connection, code: Code, text: str, kind: type[WardroundError]
) -> None:
    with pytest.raises(WardroundError) as caught:
        connection.explain(Fault(code, text))
    assert type(caught.value) is kind


def test_a_coordinator_that_is_away_is_waited_for_without_end(connection, slept, caplog) -> None:
    answers = iter([Fault(Code.UNAVAILABLE, "no route")] * 50)

    def act() -> str:
        for fault in answers:
            raise fault
        return "there"

    assert connection.call("waiting for the next order", act) == "there"
    assert len(slept) == 50
    assert slept == sorted(slept)
    assert max(slept) <= LONGEST_PAUSE_S
    assert "waiting for the next order: the coordinator at '127.0.0.1:1'" in caplog.text
