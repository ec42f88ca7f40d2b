"""Measure the relay's transfers, against bare gRPC streams of the same bytes in the same run.

A coordinator's process, two of each bare stream, and this one, which holds the sites; mutual TLS on
loopback. In each hop a site fetches a large part and delivers a large part, and the same bytes go
both ways over three bare streams (`bare_stream.py`). The relay's times hold all that it promises:
every byte hashed by its receiver, every number finite, the file on the disk under its name.

A ratio is the bare stream's time over the relay's, so 1 would mean that checking and storing cost
nothing. Seconds of the processor, of both ends together, say more where others load the machine.
"""

import argparse
import hashlib
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Thread

from bare_stream import Bare, Kind, bare_stream
from loopback import processor_s, resident_mib, running, serve_study

from wardround.deploy.in_process import open_study
from wardround.deploy.throwaway import ThrowawayAuthority
from wardround.shared import codec
from wardround.shared import plan as plans
from wardround.shared.checkpoint import Chunk, Manifest, part_ref, ref_of, verified
from wardround.shared.connection import Connection
from wardround.shared.identity import Role, read_credentials
from wardround.shared.link import CoordinatorLink
from wardround.shared.messages import (
    CheckpointUpload,
    ClassScore,
    EvaluationReport,
    TensorSpec,
    VisitReport,
)
from wardround.site_client.dial import work

SITES = tuple(f"s{number}" for number in range(1, 7))
WAYS = "fetch", "deliver"
STREAMS = "relay", *Kind


def main() -> None:
    """Print each hop's seconds, then the medians and the coordinator's memory."""
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
    folders = {name: authority.issue(Role.SITE, name) for name in SITES}
    own = {name: read_credentials(folder) for name, folder in folders.items()}
    ends = len(data), hub, folders[SITES[0]]
    with (
        running(serve_study, root / "study", hub) as (coordinator, port),
        ExitStack() as stack,
    ):
        assert coordinator.pid is not None
        address = f"127.0.0.1:{port.recv()}"
        bare = {kind: stack.enter_context(bare_stream(kind, *ends)) for kind in Kind}
        table = Table(len(data), coordinator.pid)

        def be(site_id: str) -> None:
            study = root / "study"
            site = MeasuringSite(site_id, data, coordinator.pid, bare, table, study, hops_per_site)
            with Connection(address, own[site_id]) as connection:
                work(connection, own[site_id], site, site_id=site_id, plan=plan, manifest=manifest)

        threads = [Thread(target=be, args=(site_id,)) for site_id in SITES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    table.print_medians()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one transfer took, in seconds: on the clock, and of the processor at either end."""

    wall_s: float
    server_s: float
    site_s: float


Hop = dict[tuple[str, str], Cost]  # (way, stream) to what it took


class Table:
    """Costs hop by hop."""

    def __init__(self, size_bytes: int, coordinator: int) -> None:
        self._coordinator = coordinator
        self._hops: list[Hop] = []
        self._held: list[float] = []
        print(f"{size_bytes} bytes a way; seconds; MiB of the coordinator (now, most)")
        heads = [f"{way} {stream}" for way in WAYS for stream in STREAMS]
        print("".join(f"{head:>15}" for head in (*heads, "memory")))

    def add(self, hop: Hop) -> None:
        """Take the costs of one hop and print its seconds on the clock."""
        self._hops.append(hop)
        now, most = resident_mib(self._coordinator)
        self._held.append(now)
        cells = [f"{hop[way, stream].wall_s:.2f}" for way in WAYS for stream in STREAMS]
        print("".join(f"{cell:>15}" for cell in (*cells, f"{now:.0f} {most:.0f}")), flush=True)
        self._most = most

    def print_medians(self) -> None:
        """Print what it comes to."""
        print(f"\nmedians of {len(self._hops)} hops")
        print("".join(f"{head:>15}" for head in ("", *HEADS)))
        for way in WAYS:
            for stream in STREAMS:
                cells = [f"{of(way, stream):.2f}" for of in self._columns()]
                print("".join(f"{cell:>15}" for cell in (f"{way} {stream}", *cells)))
        for stream in STREAMS[1:]:
            ratios = [_hop_s(hop, stream) / _hop_s(hop, STREAMS[0]) for hop in self._hops]
            print(f"both ways, {stream}: ratio {median(ratios):.2f}")
        first, last = (median(some) for some in (self._held[:6], self._held[-6:]))
        print(
            f"coordinator's memory: {min(self._held):.0f} to {max(self._held):.0f} MiB between "
            f"transfers, {first:.0f} in the first six hops, {last:.0f} in the last six; "
            f"at most {self._most:.0f}"
        )

    def _columns(self) -> Iterator[Callable[[str, str], float]]:
        def cost(take: Callable[[Cost], float]) -> Callable[[str, str], float]:
            return lambda way, stream: median(take(hop[way, stream]) for hop in self._hops)

        def ratio(take: Callable[[Cost], float]) -> Callable[[str, str], float]:
            return lambda way, stream: median(
                take(hop[way, stream]) / take(hop[way, "relay"]) for hop in self._hops
            )

        for kind in TAKEN:
            yield cost(kind)
        for kind in TAKEN:
            yield ratio(kind)


def _hop_s(hop: Hop, stream: str) -> float:
    return sum(hop[way, stream].wall_s for way in WAYS)


TAKEN: tuple[Callable[[Cost], float], ...] = (
    lambda cost: cost.wall_s,
    lambda cost: cost.server_s,
    lambda cost: cost.server_s + cost.site_s,
)
HEADS = "clock", "cpu server", "cpu both", "ratio", "cpu server", "cpu both"


class MeasuringSite:
    """A `SiteGateway` that trains nothing: what it delivers differs in one number."""

    def __init__(
        self,
        site_id: str,
        data: bytes,
        coordinator: int,
        bare: dict[Kind, Bare],
        table: Table,
        study: Path,
        hops: int,
    ) -> None:
        self._site_id, self._data, self._coordinator, self._bare = site_id, data, coordinator, bare
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
                ("fetch", "relay"): self._cost(lambda chunks=fetching: _exhaust(chunks)),
                ("deliver", "relay"): self._cost(
                    lambda sent=changed, under=upload: link.deliver(under, "denoiser", sent)
                ),
            }
            for kind, bare in self._bare.items():
                times["fetch", kind] = _cost(bare.fetch, bare.server, bare.dialling)
                times["deliver", kind] = _cost(bare.deliver, bare.server, bare.dialling)
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

    def _cost(self, act: Callable[[], None]) -> Cost:
        return _cost(act, self._coordinator, None)

    def _remove(self, digest: str) -> None:
        (self._store / digest[:2] / digest[2:]).unlink()


def _cost(act: Callable[[], None], server: int, site: int | None) -> Cost:
    before_s = processor_s(server), processor_s(site)
    start_s = time.perf_counter()
    act()
    wall_s = time.perf_counter() - start_s
    server_s, site_s = processor_s(server) - before_s[0], processor_s(site) - before_s[1]
    return Cost(wall_s=wall_s, server_s=server_s, site_s=site_s)


def _exhaust(chunks: Iterator[Chunk]) -> None:
    for _chunk in chunks:
        pass


def _zeros(count: int) -> bytes:
    """Return a safetensors file of one tensor of `count` zeros."""
    header = f'{{"w":{{"dtype":"F32","shape":[{count}],"data_offsets":[0,{4 * count}]}}}}'
    header += " " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header.encode() + bytes(4 * count)


if __name__ == "__main__":
    main()
