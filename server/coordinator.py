"""The coordinator's process: serve one study until it is complete and every site knows it.

The study's folder was created before (where the starting checkpoint could be made). Whatever stops
the process, starting it again on the same folder goes on with the study.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from wardround.server import study_folder
from wardround.server.presence import Presence
from wardround.server.service import MAX_MESSAGE_BYTES, SERVICE_NAME, Service, offer
from wardround.server.state import StudyState
from wardround.shared.allocator import keep_freed_memory
from wardround.shared.errors import IdentityError, JournalError, UsageError
from wardround.shared.identity import Credentials, Role, identity_of
from wardround.shared.messages import Progress

HEARTBEAT_S = 10
POLL_S = 20.0
LINGER_S = 300.0
GRACE_S = 3.0  # for answers under way; who waits for an order is cut off and asks again

_OPTIONS = (
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
    on_progress: Callable[[Progress], None] | None = None,
    on_presence: Callable[[str, bool], None] | None = None,
    poll_s: float = POLL_S,
    linger_s: float = LINGER_S,
) -> StudyState:
    """Serve the study in `directory` to its end and return its final state.

    Args:
        directory: The folder of a study.
        credentials: Of the coordinator; its certificate names the hosts that sites dial.
        listen: HOST:PORT; port 0 takes a free one.
        revoked: Returns the serial numbers of certificates that no longer count; asked each call.
        on_listening: Is told the port once sites can connect.
        on_progress: Is told what sites report while they work.
        on_presence: Is told (site_id, is_present) when a site falls silent or is heard from.
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
    if not (directory / study_folder.JOURNAL).is_file():
        raise JournalError(
            f"'{directory}' holds no study. Create one (wardround study create STUDY.toml "
            f"--out {directory}), or name another folder."
        )
    keep_freed_memory()
    with study_folder.hold(directory, on_progress=on_progress) as (relay, store):
        study_folder.verify_last_checkpoint(relay, store)
        presence = Presence(HEARTBEAT_S, on_change=on_presence)

        async def run() -> None:
            service = Service(
                relay, store, presence, revoked=revoked, poll_s=poll_s, heartbeat_s=HEARTBEAT_S
            )
            try:
                await _serve(service, presence, credentials, listen, on_listening, linger_s)
            finally:
                service.close()
            if service.failure is not None:
                raise service.failure

        asyncio.run(run())
        return relay.state


async def _serve(
    service: Service,
    presence: Presence,
    credentials: Credentials,
    listen: str,
    on_listening: Callable[[int], None] | None,
    linger_s: float,
) -> None:
    server = grpc.aio.server(options=_OPTIONS)
    offer(service, server)
    watch = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(watch, server)
    names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
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
        for name in ("", SERVICE_NAME):
            await watch.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("listening on port %d", port)
        if on_listening is not None:
            on_listening(port)
        await _until_ended(service, presence, linger_s)
    finally:
        await watch.enter_graceful_shutdown()
        await server.stop(GRACE_S)


async def _until_ended(service: Service, presence: Presence, linger_s: float) -> None:
    looking = asyncio.create_task(_look_after(presence))
    try:
        ending = asyncio.create_task(service.ended.wait())
        complete = asyncio.create_task(service.complete.wait())
        await asyncio.wait((ending, complete), return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            log.info("the study is complete; telling every site, for at most %.0f s", linger_s)
            await asyncio.wait((ending,), timeout=linger_s)
        for waiting in (ending, complete):
            waiting.cancel()
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


async def _look_after(presence: Presence) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_S)
        presence.look()
