"""A bare gRPC stream to hold the relay against: the same bytes, nothing checked, nothing written.

A grpc.aio server and a client that dials it, each a process, mutual TLS between them. The
sender has the bytes in memory, in messages of 1 MiB; the receiver drops them. Of three kinds:

* `PLAIN` is what the words mean: generated messages and their own serialisers, no option set.
* `KEPT` is the same with the relay's settings of the C library, which alone make it faster.
* `LEAN` has everything of the relay's transport: its frames and options too.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import grpc
from loopback import running

from wardround.server import coordinator
from wardround.shared import connection, frames
from wardround.shared.allocator import keep_freed_memory
from wardround.shared.checkpoint import Chunk, chunks_of
from wardround.shared.identity import read_credentials
from wardround.wire.v1 import relay_pb2 as wire


class Kind(StrEnum):
    """How the stream is made."""

    PLAIN = "plain"
    KEPT = "kept"
    LEAN = "lean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """A stream that stands.

    Attributes:
        server: Process number of the end that is dialled.
        dialling: Process number of the other end.
        pipe: To the dialling end.
    """

    server: int
    dialling: int
    pipe: Pipe

    def fetch(self) -> None:
        """Have the bytes streamed from the server."""
        self._ask("fetch")

    def deliver(self) -> None:
        """Stream the bytes to the server."""
        self._ask("deliver")

    def _ask(self, what: str) -> None:
        self.pipe.send(what)
        self.pipe.recv()


@contextmanager
def bare_stream(kind: Kind, size_bytes: int, hub: Path, site: Path) -> Iterator[Bare]:
    """Yield a stream of `size_bytes` a way, between the holders of two folders of credentials."""
    with running(_serve, kind, size_bytes, hub) as (server, port):
        number = port.recv()
        with running(_dial, kind, size_bytes, site, number) as (dialling, pipe):
            pipe.recv()
            assert server.pid is not None
            assert dialling.pid is not None
            yield Bare(server=server.pid, dialling=dialling.pid, pipe=pipe)


def _serve(kind: Kind, size_bytes: int, credentials: Path, pipe: Pipe) -> None:
    own, chunks = read_credentials(credentials), list(chunks_of(b"w" * size_bytes))

    async def down(_request: bytes, _context: Any) -> AsyncIterator[Any]:
        for chunk in chunks:
            yield _message(kind, wire.FetchResponse, chunk)

    async def up(messages: AsyncIterator[Any], _context: Any) -> bytes:
        async for message in messages:
            assert message
        return b""

    serialiser, _ = _codec(kind, wire.FetchResponse)
    _, deserialiser = _codec(kind, wire.DeliverRequest)
    handlers = {
        "Down": grpc.unary_stream_rpc_method_handler(down, response_serializer=serialiser),
        "Up": grpc.stream_unary_rpc_method_handler(up, request_deserializer=deserialiser),
    }

    async def run() -> None:
        server = grpc.aio.server(options=coordinator.OPTIONS if kind is Kind.LEAN else ())
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("bare.Stream", handlers),)
        )
        secure = grpc.ssl_server_credentials(
            [(own.key, own.certificate)], own.authority, require_client_auth=True
        )
        port = server.add_secure_port("127.0.0.1:0", secure)
        await server.start()
        pipe.send(port)
        await server.wait_for_termination()

    if kind is not Kind.PLAIN:
        keep_freed_memory()
    asyncio.run(run())


def _dial(kind: Kind, size_bytes: int, credentials: Path, port: int, pipe: Pipe) -> None:
    own, data = (
        read_credentials(credentials),
        memoryview(b"w" * size_bytes),
    )  # zeros would take no memory
    if kind is not Kind.PLAIN:
        keep_freed_memory()
    secure = grpc.ssl_channel_credentials(own.authority, own.key, own.certificate)
    options = connection.OPTIONS if kind is Kind.LEAN else ()
    channel = grpc.secure_channel(f"127.0.0.1:{port}", secure, options=options)
    _, deserialiser = _codec(kind, wire.FetchResponse)
    serialiser, _ = _codec(kind, wire.DeliverRequest)
    down = channel.unary_stream("/bare.Stream/Down", response_deserializer=deserialiser)
    up = channel.stream_unary("/bare.Stream/Up", request_serializer=serialiser)
    pipe.send("ready")
    while True:
        if pipe.recv() == "fetch":
            for message in down(b""):
                assert message
        else:
            up(_message(kind, wire.DeliverRequest, chunk) for chunk in chunks_of(data))
        pipe.send("done")


def _codec(kind: Kind, of: Any) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    if kind is not Kind.LEAN:
        return of.SerializeToString, of.FromString
    if of is wire.FetchResponse:
        return frames.write_fetched, frames.read_fetched
    return frames.write_delivered, frames.read_delivered


def _message(kind: Kind, of: Any, chunk: Chunk) -> Any:
    return chunk if kind is Kind.LEAN else of(chunk=bytes(chunk))
