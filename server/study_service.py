"""The study API as a gRPC service: operators ask where a study stands and change how it goes on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc

from wardround.server.admission import Context as _Context
from wardround.server.admission import caller_of
from wardround.server.live_study import LiveStudy
from wardround.server.refusals import told
from wardround.server.study_status import events_of
from wardround.shared import study_codec
from wardround.shared.errors import IdentityError
from wardround.shared.identity import Identity, Role
from wardround.shared.study_api import News, Standing
from wardround.wire.v1 import study_pb2 as wire
from wardround.wire.v1 import study_pb2_grpc as wire_grpc

SERVICE_NAME: str = wire.DESCRIPTOR.services_by_name["StudyService"].full_name
SILENCE_S = 10.0  # a watcher hears at least this often, so that it knows who is absent for how long


class StudyService(wire_grpc.StudyServiceServicer):
    """One study, offered to its operators.

    Args:
        study: The study.
    """

    def __init__(self, study: LiveStudy) -> None:
        self._study = study

    async def GetStatus(
        self, request: wire.GetStatusRequest, context: _Context
    ) -> wire.GetStatusResponse:
        """Say where the study stands."""
        async with self._operator(context, request.study_id):
            return wire.GetStatusResponse(
                status=study_codec.encode_status(self._study.status()),
                plan=self._study.relay.state.plan,
            )

    async def Watch(
        self, request: wire.WatchRequest, context: _Context
    ) -> AsyncIterator[wire.WatchResponse]:
        """Tell every event, and where the study stands, until it ends."""
        async with self._operator(context, request.study_id):
            known = request.after
            while True:
                news = self._study.news.next
                status = self._study.status()
                events = events_of(self._study.relay.history[: status.num_events], after=known)
                known = max(known, status.num_events)
                yield study_codec.encode_news(News(events=events, status=status))
                if status.standing in (Standing.STOPPED, Standing.COMPLETE):
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SILENCE_S):
                        await news.wait()

    async def Change(self, request: wire.ChangeRequest, context: _Context) -> wire.ChangeResponse:
        """Change how the study goes on."""
        async with self._operator(context, request.study_id) as operator:
            await self._study.change(study_codec.decode_change(request), operator.name)
            return wire.ChangeResponse(status=study_codec.encode_status(self._study.status()))

    @contextlib.asynccontextmanager
    async def _operator(self, context: _Context, study_id: str) -> AsyncIterator[Identity]:
        """Yield who is calling, if it is an operator who means this study."""
        caller = caller_of(context)
        async with told(context, caller, self._study):
            if caller.role is not Role.OPERATOR:
                raise IdentityError(
                    f"{caller.role} '{caller.name}' may not look after a study; it takes a "
                    f"certificate of {Role.OPERATOR}. Use credentials of that role."
                )
            served = self._study.relay.state.study_id
            if study_id != served:
                await context.abort(
                    grpc.StatusCode.NOT_FOUND,
                    f"study '{ascii(study_id)[1:-1]:.64}' is not served here, '{served}' is. Name "
                    f"that one, or dial the coordinator of the other.",
                )
            yield caller


def offer(service: StudyService, server: grpc.aio.Server) -> None:
    """Have `server` answer for `service`."""
    wire_grpc.add_StudyServiceServicer_to_server(service, server)
