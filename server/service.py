"""The relay as a gRPC service: sites dial it, and everything they say is checked by `Relay`.

Who is calling is read from the certificate of the connection, never from a message. What changes
the study runs on one thread, so the relay needs no locks. Bytes of checkpoints move between disk
and network on the thread that answers calls, a chunk at a time, a millisecond or two each: whoever
else calls is heard between two chunks. What takes longer is done on other threads.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, TypeVar

import grpc

from wardround.server import willingness
from wardround.server.admission import Context as _Context
from wardround.server.admission import caller_of
from wardround.server.incoming import Incoming
from wardround.server.live_study import LiveStudy
from wardround.server.refusals import told
from wardround.server.relay import AwaitedPart
from wardround.server.state import MakeVisit
from wardround.server.store import ArtefactStore
from wardround.shared import frames
from wardround.shared.allocator import return_freed_memory
from wardround.shared.checkpoint import CHUNK_BYTES, Chunk
from wardround.shared.errors import IdentityError, StaleLease, WireError
from wardround.shared.identity import Identity, Role
from wardround.shared.messages import PartRef
from wardround.shared.tensor_check import TensorCheck
from wardround.wire.v1 import relay_pb2 as wire
from wardround.wire.v1 import relay_pb2_grpc as wire_grpc

SERVICE_NAME: str = wire.DESCRIPTOR.services_by_name["RelayService"].full_name
MAX_MESSAGE_BYTES = 2 * CHUNK_BYTES  # a chunk and its frame, or any message beside it

log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Service(wire_grpc.RelayServiceServicer):
    """One study, offered to its sites.

    Args:
        study: The study.
        store: Where the parts of its checkpoints lie.
        poll_s: How long a site waits for an order before it is told to ask again.
        heartbeat_s: Seconds between the heartbeats that sites are asked for.
    """

    def __init__(
        self, study: LiveStudy, store: ArtefactStore, *, poll_s: float, heartbeat_s: int
    ) -> None:
        self._study, self._store = study, store
        self._relay, self._presence, self._leases = study.relay, study.presence, study.leases
        self._on_study = study.run
        self._poll_s, self._heartbeat_s = poll_s, heartbeat_s
        self._byte_threads = ThreadPoolExecutor(2, thread_name_prefix="bytes")

    def close(self) -> None:
        """End the threads; after the server has stopped."""
        self._byte_threads.shutdown()

    async def Register(
        self, request: wire.RegisterRequest, context: _Context
    ) -> wire.RegisterResponse:
        """Compare study plan and release."""
        async with self._caller(context) as caller:
            state, release = self._relay.state, version("wardround")
            if request.plan_digest != state.plan_digest:
                raise WireError(
                    f"site '{caller.name}' approved plan {ascii(request.plan_digest)[1:-1]:.64}, "
                    f"the study has {state.plan_digest}. Start the site with the study's plan."
                )
            await self._study.accept(caller.name)
            if request.release != release:
                log.warning("site %s runs another release than this %s", caller.name, release)
            return wire.RegisterResponse(
                release=release,
                study_id=state.study_id,
                manifest_digest=state.manifest.digest(),
                heartbeat_seconds=self._heartbeat_s,
            )

    async def NextOrder(
        self, _request: wire.NextOrderRequest, context: _Context
    ) -> wire.NextOrderResponse:
        """Give the caller the order that is due; wait a while where there is none."""
        async with self._caller(context) as caller:
            until = asyncio.get_running_loop().time() + self._poll_s
            while True:
                moved_on = self._study.moved_on.next
                answer = await self._on_study(partial(self._order_for, caller))
                if answer.kind == wire.ORDER_KIND_COMPLETE:
                    self._study.tell_ended(caller.name)
                elif answer.kind == wire.ORDER_KIND_VISIT:
                    self._study.news.ring()
                if answer.kind != wire.ORDER_KIND_NONE:
                    return answer
                try:
                    async with asyncio.timeout_at(until):
                        await moved_on.wait()
                except TimeoutError:
                    self._presence.heard(caller.name)
                    return answer

    async def Heartbeat(
        self, request: wire.HeartbeatRequest, context: _Context
    ) -> wire.HeartbeatResponse:
        """Note that the caller is alive, and how far it is."""
        async with self._caller(context) as caller:

            def beat() -> bool:
                is_current = self._leases.is_current(request.token, caller.name)
                if is_current and request.progress:
                    progress = self._relay.progress(caller.name, request.progress)
                    self._study.note_progress(progress)
                return is_current

            is_current = await self._on_study(beat)
            self._study.news.ring()
            return wire.HeartbeatResponse(is_current=is_current)

    async def Fetch(  # type: ignore[override]  # framed by `frames`
        self, request: wire.FetchRequest, context: _Context
    ) -> AsyncIterator[Chunk]:
        """Send one part of the ordered checkpoint."""
        async with self._caller(context) as caller:

            def find() -> Any:
                self._leases.expect_current(request.token, caller.name)
                return self._relay.ordered_part(caller.name, request.part_digest)

            part = await self._on_study(find)
            # Reading a chunk here takes less time than asking another thread for it.
            try:
                for chunk in self._store.read(part, request.offset):
                    yield chunk
            finally:
                return_freed_memory()

    async def Offer(self, request: wire.OfferRequest, context: _Context) -> wire.OfferResponse:
        """Say how much of an announced part is here."""
        async with self._caller(context, Role.SITE) as caller:
            awaited = await self._on_study(partial(self._awaited, caller, request))
            if awaited is None or await self._on_bytes(partial(self._store.is_whole, awaited.part)):
                return wire.OfferResponse(is_stored=True)
            await self._on_bytes(partial(self._store.keep_partial, awaited.announced))
            return wire.OfferResponse(offset=self._store.arrived(awaited.part))

    async def Deliver(  # type: ignore[override]  # framed by `frames`
        self, request_iterator: AsyncIterator[wire.DeliverHeader | Chunk], context: _Context
    ) -> wire.DeliverResponse:
        """Take in an announced part."""
        async with self._caller(context, Role.SITE) as caller:
            header = await anext(request_iterator, b"")
            if not isinstance(header, wire.DeliverHeader):
                raise WireError(
                    "an upload began without a header. Both sides must run the same release."
                )
            awaited = await self._on_study(partial(self._awaited, caller, header))
            if awaited is None or await self._on_bytes(partial(self._store.is_whole, awaited.part)):
                return wire.DeliverResponse()
            check = TensorCheck(awaited.part, *awaited.forms)
            incoming = await self._on_bytes(
                partial(self._store.receive, awaited.part, header.offset, check=check)
            )
            try:
                await _take_in(request_iterator, incoming)
                await self._on_bytes(partial(self._store.adopt, incoming))
                await self._on_study(partial(self._expect_awaited, caller, header, awaited.part))
            finally:
                incoming.close()
                return_freed_memory()
            return wire.DeliverResponse()

    async def Commit(self, request: wire.CommitRequest, context: _Context) -> wire.CommitResponse:
        """End a visit."""
        async with self._caller(context, Role.SITE) as caller:

            def commit() -> None:
                self._leases.expect_granted(request.token, caller.name)
                self._relay.commit(caller.name, request.report, request.upload)

            await self._study.alter(commit)
            log.info("site %s committed its visit", caller.name)
            return wire.CommitResponse()

    async def Evaluated(
        self, request: wire.EvaluatedRequest, context: _Context
    ) -> wire.EvaluatedResponse:
        """End an evaluation."""
        async with self._caller(context) as caller:

            def evaluated() -> None:
                self._leases.expect_granted(request.token, caller.name)
                self._relay.evaluated(caller.name, request.report)

            await self._study.alter(evaluated)
            log.info("site %s sent its evaluation", caller.name)
            return wire.EvaluatedResponse()

    async def Refuse(self, request: wire.RefuseRequest, context: _Context) -> wire.RefuseResponse:
        """Note that the caller carries out no order, and act as if it were absent."""
        async with self._caller(context, Role.SITE) as caller:
            reason = willingness.reason_in(self._relay.state, caller.name, request.refusal)
            await self._study.refuse(caller.name, reason)
            log.warning("site %s refuses: %s", caller.name, reason.value)
            return wire.RefuseResponse()

    def _order_for(self, caller: Identity) -> wire.NextOrderResponse:
        state, due = self._relay.state, self._relay.due()
        if state.has_ended or caller.name in state.withdrawn:
            return wire.NextOrderResponse(kind=wire.ORDER_KIND_COMPLETE)
        is_visit = isinstance(due, MakeVisit)
        # Asking the relay journals a lease, so whose turn it is comes first.
        if due is None or due.site_id != caller.name or (is_visit and caller.role is not Role.SITE):
            return wire.NextOrderResponse(kind=wire.ORDER_KIND_NONE)
        order = self._relay.next_order()
        if order is None:
            return wire.NextOrderResponse(kind=wire.ORDER_KIND_NONE)
        return wire.NextOrderResponse(
            kind=wire.ORDER_KIND_VISIT if is_visit else wire.ORDER_KIND_EVALUATION,
            token=self._leases.grant(order).token,
            order=order.data,
            trail=self._relay.trail_head(),
        )

    def _awaited(
        self, caller: Identity, request: wire.OfferRequest | wire.DeliverHeader
    ) -> AwaitedPart | None:
        self._leases.expect_current(request.token, caller.name)
        return self._relay.awaited_part(caller.name, request.announcement, request.part_name)

    def _expect_awaited(self, caller: Identity, header: wire.DeliverHeader, part: PartRef) -> None:
        """Drop a part whose order was taken back while it arrived, as by a withdrawal."""
        try:
            self._awaited(caller, header)
        except StaleLease:
            self._relay.discard(part)
            raise

    def _on_bytes(self, act: Callable[[], _T]) -> "asyncio.Future[_T]":
        return asyncio.get_running_loop().run_in_executor(self._byte_threads, act)

    @asynccontextmanager
    async def _caller(self, context: _Context, *roles: Role) -> AsyncIterator[Identity]:
        """Yield who is calling, if it has one of `roles`; tell it of errors as a status."""
        caller = caller_of(context)
        async with told(context, caller, self._study):
            _expect_role(caller, roles or (Role.SITE, Role.EVALUATOR), self._relay.state.members)
            self._presence.heard(caller.name)
            yield caller


def offer(service: Service, server: grpc.aio.Server) -> None:
    """Have `server` answer for `service`."""
    chunked: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Fetch": grpc.unary_stream_rpc_method_handler(
            service.Fetch,
            request_deserializer=wire.FetchRequest.FromString,
            response_serializer=frames.write_fetched,
        ),
        "Deliver": grpc.stream_unary_rpc_method_handler(
            service.Deliver,
            request_deserializer=frames.read_delivered,
            response_serializer=wire.DeliverResponse.SerializeToString,
        ),
    }
    wire_grpc.add_RelayServiceServicer_to_server(service, server)
    server.add_registered_method_handlers(SERVICE_NAME, chunked)  # in the place of the generated


async def _take_in(chunks: AsyncIterator[wire.DeliverHeader | Chunk], incoming: Incoming) -> None:
    """Take in chunks; what came before an error is kept."""
    async for chunk in chunks:
        if isinstance(chunk, wire.DeliverHeader) or not 0 < len(chunk) <= CHUNK_BYTES:
            raise WireError(
                f"an upload holds {_described(chunk)}, expected a chunk of 1 to "
                f"{CHUNK_BYTES} bytes. Both sides must run the same release."
            )
        incoming.write(chunk)  # takes less time here than asking another thread for it


def _described(content: wire.DeliverHeader | Chunk) -> str:
    if isinstance(content, wire.DeliverHeader):
        return "a second header"
    return f"a chunk of {len(content)} bytes"


def _expect_role(caller: Identity, roles: tuple[Role, ...], sites: tuple[str, ...]) -> None:
    if caller.role not in roles:
        raise IdentityError(
            f"{caller.role} '{caller.name}' may not do this; it takes a certificate of "
            f"{' or '.join(roles)}. Use credentials of that role."
        )
    if caller.name not in sites:
        raise IdentityError(
            f"{caller.role} '{caller.name}' takes no part in this study. Name it in the plan's "
            f"sites, have an operator add it, or dial the coordinator of its own study."
        )
