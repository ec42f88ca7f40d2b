"""The coordinator's process: serve one study until it is complete and every site knows it.

The study's folder was created before (where the starting checkpoint could be made). Whatever stops
the process, starting it again on the same folder goes on with the study.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from wardround.server import service, study_folder, study_service
from wardround.server.admission import Admission
from wardround.server.live_study import LiveStudy
from wardround.server.presence import Presence
from wardround.server.service import MAX_MESSAGE_BYTES, Service
from wardround.server.state import StudyState
from wardround.server.study_service import StudyService
from wardround.shared.allocator import keep_freed_memory
from wardround.shared.errors import IdentityError, UsageError
from wardround.shared.identity import Credentials, Role, identity_of

HEARTBEAT_S = 10
POLL_S = 20.0
LINGER_S = 300.0
SERVICES = (service.SERVICE_NAME, study_service.SERVICE_NAME)
GRACE_S = 3.0  # for answers under way; who waits for an order is cut off and asks again

OPTIONS = (
    ("grpc.so_reuseport", 0),  # else a second coordinator would share the port in silence
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # How much of an upload may arrive before it is asked for; by itself gRPC allows ever more.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", MAX_MESSAGE_BYTES),
    # Sites look whether the connection still stands while they train; dead ones are found so too.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
)

log = logging.getLogger(__name__)


def serve(
    directory: Path,
    credentials: Credentials,
    listen: str,
    *,
    revoked: Callable[[], frozenset[int]] = frozenset,
    on_listening: Callable[[int], None] | None = None,
    heartbeat_s: int = HEARTBEAT_S,
    poll_s: float = POLL_S,
    linger_s: float = LINGER_S,
) -> StudyState:
    """Serve the study in `directory` until it is complete or stopped; return its final state.

    Args:
        directory: The folder of a study.
        credentials: Of the coordinator; its certificate names the hosts that sites dial.
        listen: HOST:PORT; port 0 takes a free one.
        revoked: Returns the serial numbers of certificates that no longer count; asked each call.
        on_listening: Is told the port once sites can connect.
        heartbeat_s: Seconds between the heartbeats that sites are asked for.
        poll_s: How long a site waits for an order before it is told to ask again.
        linger_s: How long to wait, after the study's end, for sites that do not know of it yet.

    Raises:
        IdentityError: The credentials are not a coordinator's.
        JournalError: The folder holds no study, its journal is faulty, in use or cannot be written.
        UsageError: The address cannot be listened on.
    """
    own = identity_of(credentials.certificate)
    if own.role is not Role.COORDINATOR:
        raise IdentityError(
            f"the certificate is one of {own.role} '{own.name}', expected one of a coordinator. "
            f"Name the coordinator's own folder of credentials."
        )
    study_folder.expect_study(directory)
    keep_freed_memory()
    with study_folder.hold(directory) as (relay, store):
        study_folder.verify_last_checkpoint(relay, store)

        async def run() -> None:
            study = LiveStudy(relay, Presence(heartbeat_s))
            calls = Service(study, store, poll_s=poll_s, heartbeat_s=heartbeat_s)
            server = grpc.aio.server(options=OPTIONS, interceptors=(Admission(revoked),))
            service.offer(calls, server)
            study_service.offer(StudyService(study), server)
            looking = asyncio.create_task(_look_after(study, heartbeat_s))
            try:
                async with _listening(server, credentials, listen) as port:
                    log.info("listening on port %d", port)
                    if on_listening is not None:
                        on_listening(port)
                    await _until_ended(study, linger_s)
            finally:
                looking.cancel()
                calls.close()
                study.close()
            if study.failure is not None:
                raise study.failure

        asyncio.run(run())
        return relay.state


@contextlib.asynccontextmanager
async def _listening(
    server: grpc.aio.Server, credentials: Credentials, listen: str
) -> AsyncIterator[int]:
    watch = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(watch, server)
    names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    secure = grpc.ssl_server_credentials(
        [(credentials.key, credentials.certificate)],
        root_certificates=credentials.authority,
        require_client_auth=True,
    )
    try:
        port = server.add_secure_port(listen, secure)
    except RuntimeError as error:
        raise UsageError(
            f"cannot listen on '{listen}'. Name HOST:PORT with an address of this machine and a "
            f"port that is free, as in 0.0.0.0:7443."
        ) from error
    await server.start()
    try:
        for name in ("", *SERVICES):
            await watch.set(name, health_pb2.HealthCheckResponse.SERVING)
        yield port
    finally:
        await watch.enter_graceful_shutdown()
        await server.stop(GRACE_S)


async def _until_ended(study: LiveStudy, linger_s: float) -> None:
    ending = asyncio.create_task(study.ended.wait())
    complete = asyncio.create_task(study.complete.wait())
    await asyncio.wait((ending, complete), return_when=asyncio.FIRST_COMPLETED)
    if not ending.done():
        log.info("the study has ended; telling every site, for at most %.0f s", linger_s)
        await asyncio.wait((ending,), timeout=linger_s)
    for waiting in (ending, complete):
        waiting.cancel()


async def _look_after(study: LiveStudy, heartbeat_s: float) -> None:
    while True:
        await asyncio.sleep(heartbeat_s)
        try:
            await study.look()
        except Exception:
            log.exception("could not look who is absent")
