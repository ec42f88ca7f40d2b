"""Measure the relay's transfers, against a bare gRPC stream of the same bytes in the same run.

A coordinator's process, one of the bare server, and this one, which holds the sites; mutual TLS on
loopback. In each hop a site fetches a large part and delivers a large part, and the same bytes go
both ways over a bare stream: a grpc.aio server that streams them from memory in the same messages,
checks nothing and writes nothing. The relay's times hold all that it promises: every byte hashed by
its receiver, every number finite, the file on the disk under its name.
"""

import argparse
import asyncio
import hashlib
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

import grpc
from loopback import resident_mib, running, serve_study

from wardround.deploy.in_process import open_study
from wardround.deploy.throwaway import ThrowawayAuthority
from wardround.shared import codec
from wardround.shared import plan as plans
from wardround.shared.allocator import keep_freed_memory
from wardround.shared.checkpoint import Manifest, chunks_of, part_ref, ref_of, verified
from wardround.shared.connection import Connection
from wardround.shared.identity import Credentials, Role, read_credentials
from wardround.shared.link import CoordinatorLink
from wardround.shared.messages import (
    CheckpointUpload,
    ClassScore,
    EvaluationReport,
    TensorSpec,
    VisitReport,
)
from wardround.site_client.dial import work
from wardround.wire.v1 import relay_pb2 as wire

SITES = tuple(f"s{number}" for number in range(1, 7))
ENDS = "/bare.Stream/Down", "/bare.Stream/Up"
COLUMNS = ("fetch", "bare fetch", "deliver", "bare deliver")


def main() -> None:
    """Print a table of seconds, ratios and the coordinator's memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hops", type=int, default=6, help="at least six, one a site (6)")
    parser.add_argument("--megabytes", type=int, default=500, help="size of the large part (500)")
    given = parser.parse_args()
    count = given.megabytes * 10**6 // 4
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder), count, -(-given.hops // len(SITES)))


def _measure(root: Path, count: int, hops_per_site: int) -> None:
    plan = plans.parse(
        {
            "study_id": "throughput",
            "sites": list(SITES),
            "task": {"classes": ["organ"]},
            "release": {"byte_budget": 8 * count},
        },
        origin="benchmark",
    )
    small, large = (TensorSpec(name="w", shape=(n,), dtype="F32") for n in (1, count))
    manifest = Manifest(parts={"segmenter": (small,), "denoiser": (large,)})
    data = _zeros(count)
    with open_study(root / "study", plan, manifest, {"segmenter": _zeros(1), "denoiser": data}):
        pass
    authority = ThrowawayAuthority(root / "credentials")
    hub = authority.issue(Role.COORDINATOR, "hub")
    own = {name: read_credentials(authority.issue(Role.SITE, name)) for name in SITES}
    print(f"{len(data)} bytes a way; seconds, bare / relay, MiB of the coordinator (now, most)")
    print("".join(f"{column:>14}" for column in COLUMNS), "  fetched delivered   memory")
    with (
        running(serve_study, root / "study", hub) as (coordinator, port),
        running(serve_bare, len(data), hub) as (_, bare_port),
    ):
        address, bare = f"127.0.0.1:{port.recv()}", Bare(bare_port.recv(), own[SITES[0]])
        table = Table(coordinator.pid)

        def be(site_id: str) -> None:
            site = MeasuringSite(site_id, data, bare, table, root / "study", hops_per_site)
            with Connection(address, own[site_id]) as connection:
                work(connection, own[site_id], site, site_id=site_id, plan=plan, manifest=manifest)

        threads = [Thread(target=be, args=(site_id,)) for site_id in SITES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    table.print_medians()


class Table:
    """Times hop by hop."""

    def __init__(self, coordinator: int | None) -> None:
        self._coordinator = coordinator
        self._hops: list[dict[str, float]] = []

    def add(self, times: dict[str, float]) -> None:
        """Take and print the seconds of one hop."""
        self._hops.append(times)
        now, most = resident_mib(self._coordinator)
        cells = "".join(f"{times[column]:14.2f}" for column in COLUMNS)
        print(cells, "".join(f"{ratio:10.2f}" for ratio in _ratios(times)), end="")
        print(f"{now:6.0f} {most:4.0f}", flush=True)

    def print_medians(self) -> None:
        """Print what it comes to."""
        ratios = zip(*(_ratios(times) for times in self._hops), strict=True)
        fetched, delivered = (median(column) for column in ratios)
        print(f"median of {len(self._hops)} hops: fetched {fetched:.2f}, delivered {delivered:.2f}")


def _ratios(times: dict[str, float]) -> tuple[float, float]:
    return times["bare fetch"] / times["fetch"], times["bare deliver"] / times["deliver"]


class MeasuringSite:
    """A `SiteGateway` that trains nothing: what it delivers differs in one number."""

    def __init__(
        self, site_id: str, data: bytes, bare: "Bare", table: Table, study: Path, hops: int
    ) -> None:
        self._site_id, self._data, self._bare = site_id, data, bare
        self._table, self._store, self._hops = table, study / "checkpoints" / "sha256", hops

    def visit(self, data: bytes, link: CoordinatorLink) -> None:
        """Go both ways as often as was asked, and commit what was delivered last."""
        order = codec.decode_visit_order(data)
        parent = {part.name: part for part in order.parent.parts}
        for hop in range(self._hops):
            changed = self._data[:-8] + struct.pack("<2f", order.visit, hop)
            part = part_ref("denoiser", changed)
            parts = ref_of([parent["segmenter"], part])
            upload = codec.encode(
                CheckpointUpload(visit=order.visit, site_id=self._site_id, checkpoint=parts)
            )
            fetching = verified(parent["denoiser"], link.fetch(parent["denoiser"]))
            times = {
                "fetch": _seconds(lambda chunks=fetching: _exhaust(chunks)),
                "bare fetch": _seconds(self._bare.fetch),
                "deliver": _seconds(
                    lambda sent=changed, under=upload: link.deliver(under, "denoiser", sent)
                ),
                "bare deliver": _seconds(lambda sent=changed: self._bare.deliver(sent)),
            }
            self._table.add(times)
            if hop + 1 < self._hops:  # of no further use, and disks are small
                self._remove(part.digest)
        report = VisitReport(
            visit=order.visit, site_id=self._site_id, num_train=10, metrics={}, phase_seconds={}
        )
        link.commit(codec.encode(report), upload)
        self._remove(parent["denoiser"].digest)

    def evaluate(self, data: bytes, link: CoordinatorLink) -> None:
        """Say any score."""
        order = codec.decode_evaluation_order(data)
        score = ClassScore(class_name="organ", dice=0.5, hd95_mm=1, asd_mm=1, num_undefined=0)
        report = EvaluationReport(
            visit=order.visit,
            site_id=self._site_id,
            checkpoint_digest=order.checkpoint.digest,
            num_cases=4,
            classes=(score,),
            data_digest=hashlib.sha256(b"no cases").hexdigest(),
        )
        link.evaluated(codec.encode(report))

    def _remove(self, digest: str) -> None:
        (self._store / digest[:2] / digest[2:]).unlink()


class Bare:
    """The site's end of the bare stream."""

    def __init__(self, port: int, own: Credentials) -> None:
        secure = grpc.ssl_channel_credentials(own.authority, own.key, own.certificate)
        channel = grpc.secure_channel(f"127.0.0.1:{port}", secure)
        down, up = ENDS
        self._down = channel.unary_stream(down, response_deserializer=wire.FetchResponse.FromString)
        self._up = channel.stream_unary(
            up, request_serializer=wire.DeliverRequest.SerializeToString
        )

    def fetch(self) -> None:
        """Have the bytes streamed here."""
        _exhaust(message.chunk for message in self._down(b""))

    def deliver(self, data: bytes) -> None:
        """Stream the bytes there."""
        self._up(wire.DeliverRequest(chunk=chunk) for chunk in chunks_of(data))


def serve_bare(size_bytes: int, credentials: Path, pipe: Pipe) -> None:
    """Be the bare server; send the port through `pipe`."""
    own, chunks = read_credentials(credentials), list(chunks_of(bytes(size_bytes)))

    async def down(_request: bytes, _context: Any) -> AsyncIterator[wire.FetchResponse]:
        for chunk in chunks:
            yield wire.FetchResponse(chunk=chunk)

    async def up(requests: AsyncIterator[wire.DeliverRequest], _context: Any) -> bytes:
        async for message in requests:
            assert message.chunk
        return b""

    handlers = {
        "Down": grpc.unary_stream_rpc_method_handler(
            down, response_serializer=wire.FetchResponse.SerializeToString
        ),
        "Up": grpc.stream_unary_rpc_method_handler(
            up, request_deserializer=wire.DeliverRequest.FromString
        ),
    }

    async def run() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("bare.Stream", handlers),)
        )
        secure = grpc.ssl_server_credentials(
            [(own.key, own.certificate)], own.authority, require_client_auth=True
        )
        pipe.send(server.add_secure_port("127.0.0.1:0", secure))
        await server.start()
        await server.wait_for_termination()

    keep_freed_memory()  # as the relay's two ends do; without it the bare stream is slower
    asyncio.run(run())


def _seconds(act: Callable[[], None]) -> float:
    start_s = time.perf_counter()
    act()
    return time.perf_counter() - start_s


def _exhaust(chunks: Iterator[bytes]) -> None:
    for _chunk in chunks:
        pass


def _zeros(count: int) -> bytes:
    """Return a safetensors file of one tensor of `count` zeros."""
    header = f'{{"w":{{"dtype":"F32","shape":[{count}],"data_offsets":[0,{4 * count}]}}}}'
    header += " " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header.encode() + bytes(4 * count)


if __name__ == "__main__":
    main()
