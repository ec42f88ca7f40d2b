"""Measure the relay's transfers against a bare gRPC stream of the same bytes in the same run.

One coordinator process, one process with all sites, mutual TLS on loopback. At each hop a site
fetches a large part and delivers a large part, and both ways are also gone over a bare stream: the
smallest grpc.aio server, in a process of its own, that streams the same chunks from memory, checks
nothing and writes nothing. The relay's times contain all that it promises: SHA-256, finite values,
the file on the disk.
"""

import argparse
import asyncio
import hashlib
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

import grpc
from wardround.wire.v1 import relay_pb2 as w
from loopback import issue, resident_mib, running, serve_study

from wardround.deploy.in_process import open_study
from wardround.shared import codec
from wardround.shared import plan as plans
from wardround.shared.checkpoint import Manifest, chunks_of, part_ref, ref_of, verified
from wardround.shared.identity import Credentials, Role, read_credentials
from wardround.shared.link import CoordinatorLink
from wardround.shared.messages import (
    CheckpointUpload,
    ClassScore,
    EvaluationReport,
    TensorSpec,
    VisitReport,
)
from wardround.site_client.connection import Connection
from wardround.site_client.dial import work

_DOWN, _UP = "/bare.Stream/Down", "/bare.Stream/Up"


class Bare:
    """The site's end of the bare stream."""

    def __init__(self, port: int, own: Credentials) -> None:
        bytearray(4 << 20)
        secure = grpc.ssl_channel_credentials(own.authority, own.key, own.certificate)
        channel = grpc.secure_channel(f"127.0.0.1:{port}", secure)
        self._down, self._up = (
            channel.unary_stream(_DOWN, response_deserializer=w.FetchResponse.FromString),
            channel.stream_unary(_UP, request_serializer=w.DeliverRequest.SerializeToString),
        )

    def fetch(self) -> int:
        return sum(len(m.chunk) for m in self._down(b""))

    def deliver(self, data: bytes) -> None:
        self._up(w.DeliverRequest(chunk=c) for c in chunks_of(data))


def serve_bare(data_path: Path, credentials: Path, pipe: Pipe) -> None:
    """Be the bare server; send the port through `pipe`."""
    bytearray(4 << 20)
    own, chunks = read_credentials(credentials), list(chunks_of(data_path.read_bytes()))

    async def down(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield w.FetchResponse(chunk=chunk)

    async def up(requests: AsyncIterator[bytes], _context: Any) -> bytes:
        async for m in requests:
            m.chunk
        return b""

    async def run() -> None:
        server = grpc.aio.server()
        handlers = {
            "Down": grpc.unary_stream_rpc_method_handler(
                down, response_serializer=w.FetchResponse.SerializeToString
            ),
            "Up": grpc.stream_unary_rpc_method_handler(
                up, request_deserializer=w.DeliverRequest.FromString
            ),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("bare.Stream", handlers),)
        )
        secure = grpc.ssl_server_credentials(
            [(own.key, own.certificate)], own.authority, require_client_auth=True
        )
        pipe.send(server.add_secure_port("127.0.0.1:0", secure))
        await server.start()
        await server.wait_for_termination()

    asyncio.run(run())


class Measured:
    """A site that trains nothing: its visit times the transfers, its part differs in one number."""

    times: dict[str, list[float]]

    def __init__(self, site_id: str, bare: Bare, times: dict[str, list[float]], after) -> None:
        self.site_id, self._bare, self.times, self._after = site_id, bare, times, after

    def visit(self, data: bytes, link: CoordinatorLink) -> None:
        print("before", self.rss(), flush=True)
        order = codec.decode_visit_order(data)
        parent = {part.name: part for part in order.parent.parts}
        with self._timing("fetch"):
            denoiser = sum(map(len, verified(parent["denoiser"], link.fetch(parent["denoiser"]))))
        with self._timing("bare fetch"):
            assert self._bare.fetch() == denoiser
        changed = Measured.data[:-4] + struct.pack("<f", order.visit)
        part = part_ref("denoiser", changed)
        upload = codec.encode(
            CheckpointUpload(
                visit=order.visit,
                site_id=self.site_id,
                checkpoint=ref_of([parent["segmenter"], part]),
            )
        )
        with self._timing("deliver"):
            link.deliver(upload, "denoiser", changed)
        with self._timing("bare deliver"):
            self._bare.deliver(changed)
        report = VisitReport(
            visit=order.visit, site_id=self.site_id, num_train=10, metrics={}, phase_seconds={}
        )
        link.commit(codec.encode(report), upload)
        self._after(parent["denoiser"].digest)

    def evaluate(self, data: bytes, link: CoordinatorLink) -> None:
        order = codec.decode_evaluation_order(data)
        score = ClassScore(class_name="organ", dice=0.5, hd95_mm=1, asd_mm=1, num_undefined=0)
        report = EvaluationReport(
            visit=order.visit,
            site_id=self.site_id,
            checkpoint_digest=order.checkpoint.digest,
            num_cases=4,
            classes=(score,),
            data_digest=hashlib.sha256(b"none").hexdigest(),
        )
        link.evaluated(codec.encode(report))

    def _timing(self, what):
        import contextlib

        @contextlib.contextmanager
        def t():
            s = time.perf_counter()
            c = Measured.cpu()
            yield
            e = Measured.cpu()
            print(
                f"{what:14s} wall {time.perf_counter() - s:.2f} cpu of servers {e[0] - c[0]:.2f} site {e[1] - c[1]:.2f} sum {sum(e) - sum(c):.2f}",
                flush=True,
            )
            self.times.setdefault(what, []).append(time.perf_counter() - s)

        return t()


def safetensors(name: str, count: int) -> bytes:
    header = f'{{"{name}":{{"dtype":"F32","shape":[{count}],"data_offsets":[0,{4 * count}]}}}}'
    header += " " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header.encode() + bytes(4 * count)


def cpu_of(pid):
    f = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(f[11]) + int(f[12])) / 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hops", type=int, default=5)
    parser.add_argument("--mb", type=int, default=500)
    given = parser.parse_args()
    count = given.mb * 10**6 // 4
    sites = [f"s{n}" for n in range(1, given.hops + 1)]
    plan = plans.parse(
        {
            "study_id": "throughput",
            "sites": sites,
            "task": {"classes": ["organ"]},
            "release": {"byte_budget": 2 * 4 * count},
        },
        origin="benchmark",
    )
    manifest = Manifest(
        parts={
            "segmenter": (TensorSpec(name="w", shape=(1,), dtype="F32"),),
            "denoiser": (TensorSpec(name="w", shape=(count,), dtype="F32"),),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        big = safetensors("w", count)
        (root / "bare").write_bytes(big)
        genesis = {"segmenter": safetensors("w", 1), "denoiser": big}
        with open_study(root / "study", plan, manifest, genesis):
            pass
        Measured.data = big
        del big, genesis
        hub = issue(root, Role.COORDINATOR, "hub")
        own = {site: read_credentials(issue(root, Role.SITE, site)) for site in sites}
        times: dict[str, list[float]] = {}
        with (
            running(serve_study, root / "study", hub) as (coordinator, port),
            running(serve_bare, root / "bare", hub) as (bareproc, bare_port),
        ):
            address = f"127.0.0.1:{port.recv()}"
            bare = Bare(bare_port.recv(), own[sites[0]])

            Measured.cpu = staticmethod(
                lambda: (cpu_of(coordinator.pid) + cpu_of(bareproc.pid), cpu_of("self"))
            )
            Measured.rss = staticmethod(lambda: resident_mib(coordinator.pid))

            def after(digest):
                (root / "study/checkpoints/sha256" / digest[:2] / digest[2:]).unlink()
                n, m = resident_mib(coordinator.pid)
                t = {k: v[-1] for k, v in times.items()}
                print(
                    " ".join(f"{k} {v:.2f}" for k, v in t.items()),
                    f"ratios {t['bare fetch'] / t['fetch']:.2f} {t['bare deliver'] / t['deliver']:.2f} rss {n:.0f} hwm {m:.0f}",
                    flush=True,
                )

            def be(site):
                with Connection(address, own[site]) as connection:
                    work(
                        connection,
                        own[site],
                        Measured(site, bare, times, after),
                        site_id=site,
                        plan=plan,
                        manifest=manifest,
                    )

            threads = [Thread(target=be, args=(site,)) for site in sites]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
        for way in ("fetch", "deliver"):
            r = [b / a for a, b in zip(times[way], times["bare " + way])]
            print(way, "median ratio", f"{median(r):.2f}", "min", f"{min(r):.2f}")


if __name__ == "__main__":
    main()
