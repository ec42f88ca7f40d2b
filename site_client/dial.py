"""Dial the coordinator and carry out its orders until the study is complete.

A site opens connections and accepts none. What breaks on the way is gone on with where it broke: a
download and an upload at their last byte, a visit at its last finished phase, a lease that a new
coordinator does not know by asking whether the same order is still due.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from threading import Event, Thread
from typing import TypeVar

import grpc

from wardround.shared import frames
from wardround.shared.allocator import keep_freed_memory
from wardround.shared.checkpoint import Chunk, Manifest, chunks_of
from wardround.shared.connection import Connection
from wardround.shared.errors import (
    CheckpointError,
    IdentityError,
    StaleLease,
    WardroundError,
    WireError,
)
from wardround.shared.identity import Credentials, Role, identity_of
from wardround.shared.link import SiteGateway
from wardround.shared.messages import PartRef
from wardround.shared.plan import StudyPlan
from wardround.wire.v1 import relay_pb2 as wire
from wardround.wire.v1 import relay_pb2_grpc as wire_grpc

ANSWER_S = 120.0  # for calls that answer at once; long enough for a slow disk
REFUSAL_S = 20.0
SHORTEST_BEAT_S = 1.0

_SERVICE = "/" + wire.DESCRIPTOR.services_by_name["RelayService"].full_name

log = logging.getLogger(__name__)
_T = TypeVar("_T")
Deliver = Callable[[Iterator[wire.DeliverHeader | Chunk]], wire.DeliverResponse]


def work(
    connection: Connection,
    credentials: Credentials,
    gateway: SiteGateway,
    *,
    site_id: str,
    plan: StudyPlan,
    manifest: Manifest,
) -> None:
    """Carry out orders until the study is complete.

    Args:
        connection: To the coordinator.
        credentials: Those the connection was made with.
        gateway: The site.
        site_id: Its name, which must be that of the certificate.
        plan: The plan that was approved here.
        manifest: What a checkpoint of this plan may hold.

    Raises:
        IdentityError: The credentials are of another holder, or refused by either end.
        WardroundError: Whatever stopped the site, or what the coordinator refused.
    """
    _expect_holder(credentials, site_id)
    keep_freed_memory()
    coordinator = _Coordinator(connection)
    terms = coordinator.register(plan, manifest)
    log.info("registered with study %s", terms.study_id)
    while (answer := coordinator.next_order()).kind != wire.ORDER_KIND_COMPLETE:
        if answer.kind == wire.ORDER_KIND_NONE:
            continue
        lease = Lease(coordinator, answer)
        try:
            with (
                Heart(coordinator, lease, terms.heartbeat_seconds) as heart,
                coordinator.uploading() as deliver,
            ):
                link = RelayLink(coordinator, lease, heart, deliver)
                if answer.kind == wire.ORDER_KIND_VISIT:
                    gateway.visit(answer.order, link)
                else:
                    gateway.evaluate(answer.order, link)
        except StaleLease as stale:
            log.warning("stopped what is no longer asked for: %s", stale)
    log.info("the study has ended")


def tell_refusal(connection: Connection, refusal: bytes) -> bool:
    """Tell the coordinator why this site carries out no order; return whether it took it.

    It is tried once: a site that does not work waits for nobody.

    Args:
        connection: To the coordinator.
        refusal: An encoded `Refusal`.
    """
    stub = wire_grpc.RelayServiceStub(connection.channel)
    try:
        stub.Refuse(wire.RefuseRequest(refusal=refusal), timeout=REFUSAL_S, wait_for_ready=True)
    except grpc.RpcError as error:
        log.warning("the coordinator was not told of the refusal: %s", error.code())
        return False
    return True


class _Coordinator:
    """The remote calls, each repeated until the coordinator answers."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.stub = wire_grpc.RelayServiceStub(connection.channel)
        self.fetch = connection.channel.unary_stream(
            f"{_SERVICE}/Fetch",
            request_serializer=wire.FetchRequest.SerializeToString,
            response_deserializer=frames.read_fetched,
        )
        self._ended: wire.NextOrderResponse | None = None

    @contextmanager
    def uploading(self) -> Iterator[Deliver]:
        """Yield the call that uploads, over a connection of its own that ends with the order.

        What gRPC keeps for a connection grows with what came over it, and a coordinator has many
        sites.
        """
        with self.connection.one_more() as channel:
            yield channel.stream_unary(
                f"{_SERVICE}/Deliver",
                request_serializer=frames.write_delivered,
                response_deserializer=wire.DeliverResponse.FromString,
            )

    def register(self, plan: StudyPlan, manifest: Manifest) -> wire.RegisterResponse:
        request = wire.RegisterRequest(release=version("wardround"), plan_digest=plan.digest())
        terms = self.connection.call(
            "registering", lambda: self.stub.Register(request, timeout=ANSWER_S)
        )
        if terms.manifest_digest != manifest.digest():
            raise WireError(
                f"study '{terms.study_id}' passes other tensors around (manifest "
                f"{terms.manifest_digest:.64}, here {manifest.digest()}). The coordinator runs "
                f"wardround {terms.release:.20}, this site {version('wardround')}; "
                f"run the same release."
            )
        return terms

    def next_order(self) -> wire.NextOrderResponse:
        if self._ended is not None:
            return (
                self._ended
            )  # told once, also to who renewed a lease; the coordinator may be gone
        answer = self.connection.call(
            "waiting for the next order",
            lambda: self.stub.NextOrder(wire.NextOrderRequest(), timeout=ANSWER_S),
        )
        if answer.kind == wire.ORDER_KIND_UNSPECIFIED:
            raise WireError(
                "the coordinator sent an order of no known kind. Run the same release as it does."
            )
        if answer.kind == wire.ORDER_KIND_COMPLETE:
            self._ended = answer
        return answer


class Lease:
    """The lease on the order that is being carried out."""

    def __init__(self, coordinator: _Coordinator, answer: wire.NextOrderResponse) -> None:
        self._coordinator = coordinator
        self._order = (answer.kind, answer.order)
        self.token = answer.token
        self.trail_head = answer.trail

    def renew(self) -> None:
        """Ask whether the same order is still due, as after the coordinator was started anew.

        Raises:
            StaleLease: It is not.
        """
        answer = self._coordinator.next_order()
        if (answer.kind, answer.order) != self._order:
            raise StaleLease(
                "the order that this site carries out is no longer due, or not to this site. "
                "What it has finished is kept; the next order is asked for."
            )
        self.token = answer.token
        log.info("the coordinator was started anew; this site's order still stands")

    def call(self, what: str, act: Callable[[str], _T]) -> _T:
        """Return what `act` returns for the token, renewing it once where it is stale."""
        call = self._coordinator.connection.call
        try:
            return call(what, lambda: act(self.token))
        except StaleLease:
            self.renew()
            return call(what, lambda: act(self.token))


class Heart:
    """A thread that says the site is alive, and how far it is, while an order is carried out.

    It never stops the work by itself: what it learns is told at the next `check`.
    """

    def __init__(self, coordinator: _Coordinator, lease: Lease, interval_s: float) -> None:
        self._coordinator, self._lease, self._interval_s = coordinator, lease, interval_s
        self._progress = b""
        self._wake, self._stopped = Event(), Event()
        self._call: grpc.Future[wire.HeartbeatResponse] | None = None
        self._stale_token = ""
        self._refusal: IdentityError | None = None
        self._thread = Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heart":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._wake.set()
        if self._call is not None:
            self._call.cancel()
        self._thread.join()

    def tell(self, progress: bytes) -> None:
        """Send this with one of the next heartbeats; a later one replaces it."""
        self._progress = progress
        self._wake.set()

    def check(self) -> None:
        """Renew the lease where a heartbeat was told that it is stale.

        Raises:
            IdentityError: The coordinator no longer accepts this site.
            StaleLease: The order is no longer due.
        """
        if self._refusal is not None:
            raise self._refusal
        if self._stale_token == self._lease.token:
            self._lease.renew()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            self._beat()
            if self._stopped.wait(SHORTEST_BEAT_S):
                return
            self._wake.wait(self._interval_s - SHORTEST_BEAT_S)

    def _beat(self) -> None:
        token, progress, self._progress = self._lease.token, self._progress, b""
        request = wire.HeartbeatRequest(token=token, progress=progress)
        try:
            self._call = self._coordinator.stub.Heartbeat.future(request, timeout=self._interval_s)
            if self._stopped.is_set():
                self._call.cancel()  # it began while the order ended
            if not self._call.result().is_current:
                self._stale_token = token
            self._coordinator.connection.on_answer()
        except (grpc.RpcError, grpc.FutureCancelledError, ValueError) as error:
            if not self._stopped.is_set():
                self._note(error)

    def _note(self, error: Exception) -> None:
        if not isinstance(error, grpc.RpcError):
            return
        try:
            self._coordinator.connection.explain(error)
        except IdentityError as refusal:
            self._refusal = refusal
        except WardroundError as failed:
            log.warning("a heartbeat was lost, the work goes on: %s", failed)


class RelayLink:
    """The `CoordinatorLink` of a site that carries out one order."""

    def __init__(
        self, coordinator: _Coordinator, lease: Lease, heart: Heart, deliver: Deliver
    ) -> None:
        self._coordinator, self._stub = coordinator, coordinator.stub
        self._connection = coordinator.connection
        self._lease, self._heart = lease, heart
        self._deliver = deliver

    def trail_head(self) -> bytes:
        """Return what came beside the order."""
        return self._lease.trail_head

    def fetch(self, part: PartRef) -> Iterator[Chunk]:
        """Yield the bytes of a part, going on where a connection broke."""
        size, pauses = 0, self._connection.pauses()
        while size < part.size_bytes:
            request = wire.FetchRequest(
                token=self._lease.token, part_digest=part.digest, offset=size
            )
            call = self._coordinator.fetch(request)
            try:
                for chunk in call:
                    size += len(chunk)
                    pauses = self._connection.pauses()
                    yield chunk
                break
            except grpc.RpcError as error:
                try:
                    self._connection.wait_out(error, f"fetching '{part.name}'", next(pauses))
                except StaleLease:
                    self._lease.renew()
            finally:
                call.cancel()

    def progress(self, message: bytes) -> None:
        """Send this with a heartbeat; whether it arrives does not matter."""
        self._heart.check()
        self._heart.tell(message)

    def deliver(self, announcement: bytes, part_name: str, data: bytes) -> None:
        """Upload a part, going on where a connection broke."""
        what, pauses = f"uploading '{part_name}'", self._connection.pauses()
        may_start_over = True
        while True:
            offer = self._lease.call(
                what,
                lambda token: self._stub.Offer(
                    wire.OfferRequest(token=token, announcement=announcement, part_name=part_name),
                    timeout=ANSWER_S,
                ),
            )
            if offer.is_stored:
                return
            header = wire.DeliverHeader(
                token=self._lease.token,
                announcement=announcement,
                part_name=part_name,
                offset=offer.offset,
            )
            try:
                self._deliver(_contents(header, data))
            except grpc.RpcError as error:
                try:
                    self._connection.wait_out(error, what, next(pauses))
                except CheckpointError:
                    # What an interrupted upload left may be damaged; the coordinator dropped it.
                    if not (offer.offset and may_start_over):
                        raise
                    may_start_over = False
                except StaleLease:
                    self._lease.renew()
            else:
                return

    def commit(self, report: bytes, upload: bytes) -> None:
        """End the visit."""
        self._lease.call(
            "committing the visit",
            lambda token: self._stub.Commit(
                wire.CommitRequest(token=token, report=report, upload=upload), timeout=ANSWER_S
            ),
        )

    def evaluated(self, report: bytes) -> None:
        """End the evaluation."""
        self._lease.call(
            "reporting the evaluation",
            lambda token: self._stub.Evaluated(
                wire.EvaluatedRequest(token=token, report=report), timeout=ANSWER_S
            ),
        )


def _contents(header: wire.DeliverHeader, data: bytes) -> Iterator[wire.DeliverHeader | Chunk]:
    yield header
    yield from chunks_of(memoryview(data), header.offset)


def _expect_holder(credentials: Credentials, site_id: str) -> None:
    own = identity_of(credentials.certificate)
    if own.name != site_id or own.role not in (Role.SITE, Role.EVALUATOR):
        raise IdentityError(
            f"the certificate is one of {own.role} '{own.name}', expected one of site "
            f"'{site_id}'. Name the folder with this site's own credentials."
        )
