"""Heartbeats and leases of a site against a stub that answers as it is told."""

from threading import Event
from types import SimpleNamespace

import grpc
import pytest

from wardround.shared.errors import ConnectionLost, IdentityError, StaleLease, WireError
from wardround.site_client import dial
from wardround.site_client.dial import Heart, Lease
from wardround.wire.v1 import relay_pb2 as wire

ORDER = wire.NextOrderResponse(kind=wire.ORDER_KIND_VISIT, token="first", order=b"train")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(dial, "SHORTEST_BEAT_S", 0.01)


class _Future:
    def __init__(self, answer) -> None:
        self._answer = answer

    def result(self):
        if isinstance(self._answer, Exception):
            raise self._answer
        return wire.HeartbeatResponse(is_current=self._answer)

    def cancel(self) -> None:
        pass


class _Coordinator:
    """Answers heartbeats as `answer` says, notes them, and gives the order `coming`."""

    def __init__(self, answer=True, coming=ORDER, refusal: Exception | None = None) -> None:
        self.answer, self.coming = answer, coming
        self.requests: list[wire.HeartbeatRequest] = []
        self.beaten = Event()
        self.stub = SimpleNamespace(Heartbeat=SimpleNamespace(future=self._beat))
        self.connection = SimpleNamespace(
            explain=self._explain, call=lambda what, act: act(), on_answer=lambda: None
        )
        self._refusal = refusal

    def next_order(self) -> wire.NextOrderResponse:
        return self.coming

    def _beat(self, request, timeout):
        self.requests.append(request)
        # The second beat begins when the first one's answer was dealt with.
        if len(self.requests) > 1:
            self.beaten.set()
        return _Future(self.answer)

    def _explain(self, error):
        raise self._refusal


def beat_twice(coordinator: _Coordinator) -> tuple[Heart, Lease]:
    lease = Lease(coordinator, ORDER)
    with Heart(coordinator, lease, interval_s=0.02) as heart:
        heart.tell(b"step 1")
        assert coordinator.beaten.wait(60)
    return heart, lease


def test_progress_goes_with_a_heartbeat_once() -> None:
    coordinator = _Coordinator()
    heart, _ = beat_twice(coordinator)
    heart.check()
    assert [request.progress for request in coordinator.requests].count(b"step 1") == 1
    assert {request.token for request in coordinator.requests} == {"first"}


@pytest.mark.parametrize("refusal", [WireError("not valid"), ConnectionLost("away")])
def test_a_heartbeat_that_fails_stops_nothing(refusal: Exception) -> None:
    heart, _ = beat_twice(_Coordinator(answer=grpc.RpcError(), refusal=refusal))
    heart.check()


def test_a_refused_site_learns_it_at_the_next_check() -> None:
    refusal = IdentityError("revoked")
    heart, _ = beat_twice(_Coordinator(answer=grpc.RpcError(), refusal=refusal))
    with pytest.raises(IdentityError, match="revoked"):
        heart.check()


def test_a_stale_lease_is_renewed_where_the_same_order_is_due() -> None:
    coming = wire.NextOrderResponse(kind=ORDER.kind, token="second", order=ORDER.order)
    heart, lease = beat_twice(_Coordinator(answer=False, coming=coming))
    heart.check()
    assert lease.token == "second"
    heart.check()


@pytest.mark.parametrize(
    "coming",
    [
        wire.NextOrderResponse(kind=wire.ORDER_KIND_NONE),
        wire.NextOrderResponse(kind=wire.ORDER_KIND_COMPLETE),
        wire.NextOrderResponse(kind=ORDER.kind, token="second", order=b"another"),
        wire.NextOrderResponse(kind=wire.ORDER_KIND_EVALUATION, token="second", order=ORDER.order),
    ],
)
def test_a_stale_lease_ends_the_work_where_another_order_is_due(coming) -> None:
    heart, _ = beat_twice(_Coordinator(answer=False, coming=coming))
    with pytest.raises(StaleLease, match="no longer due"):
        heart.check()


def test_a_call_under_a_stale_token_is_made_again_under_the_new_one() -> None:
    coming = wire.NextOrderResponse(kind=ORDER.kind, token="second", order=ORDER.order)
    lease, tokens = Lease(_Coordinator(coming=coming), ORDER), []

    def act(token: str) -> str:
        tokens.append(token)
        if token == "first":
            raise StaleLease("stale")
        return "done"

    assert lease.call("committing", act) == "done"
    assert tokens == ["first", "second"]
