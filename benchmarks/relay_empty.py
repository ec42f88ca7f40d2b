"""Measure a relay of six sites that train nothing: what of a study's time is the relay's own.

The coordinator as `wardround coordinator serve` runs it and six sites, each a process of its own
with the loop that `wardround site start` runs, mutual TLS on loopback. A site answers an order at
once: its visit adds a prompt of a few numbers, its evaluation says any score. The clock starts
before the first process and stops when the last has ended.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

from wardround.deploy.throwaway import ThrowawayAuthority
from wardround.shared import codec
from wardround.shared import plan as plans
from wardround.shared.checkpoint import Manifest, part_ref, ref_of, verified
from wardround.shared.identity import Role, read_credentials
from wardround.shared.link import CoordinatorLink
from wardround.shared.messages import (
    CheckpointUpload,
    ClassScore,
    EvaluationReport,
    TensorSpec,
    VisitReport,
)

SITES = tuple(f"s{number}" for number in range(1, 7))
WEIGHT = TensorSpec(name="w", shape=(1,), dtype="F32")
MANIFEST = Manifest(parts={"segmenter": (WEIGHT,), "denoiser": (WEIGHT,)}, prompt=(WEIGHT,))
PLAN = plans.parse(
    {"study_id": "empty", "sites": list(SITES), "task": {"classes": ["organ"]}}, origin="benchmark"
)
_HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  '
PART = len(_HEADER).to_bytes(8, "little") + _HEADER + bytes(4)


def main() -> None:
    """Print the seconds of a study and of its hops."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="how often to repeat it (5)")
    parser.add_argument("--site", nargs=3, help=argparse.SUPPRESS)  # what a site's process is given
    given = parser.parse_args()
    if given.site:
        _be_site(*given.site)
        return
    totals, hops, before = [], [], os.times()
    for run in range(1, given.runs + 1):
        with tempfile.TemporaryDirectory() as folder:
            total_s, each_s = _measure(Path(folder))
        totals.append(total_s)
        hops += each_s
        print(
            f"run {run}: {total_s:.2f} s from the first start to the last end; a hop "
            f"{median(each_s):.3f} s (longest {max(each_s):.3f})",
            flush=True,
        )
    print(
        f"median of {given.runs} runs: {median(totals):.2f} s; of {len(hops)} hops: "
        f"{median(hops):.3f} s"
    )
    spent_s = sum(os.times()[2:4]) - sum(before[2:4])
    print(
        f"processor time of all seven processes: {spent_s / given.runs:.1f} s a run; "
        f"load of the machine {os.getloadavg()[0]:.1f}"
    )


def _measure(root: Path) -> tuple[float, list[float]]:
    from wardround.deploy.in_process import open_study
    from wardround.server.journal import read_events

    study = root / "study"
    with open_study(study, PLAN, MANIFEST, {"segmenter": PART, "denoiser": PART}):
        pass
    authority = ThrowawayAuthority(root / "credentials")
    hub = authority.issue(Role.COORDINATOR, "hub")
    own = {site_id: authority.issue(Role.SITE, site_id) for site_id in SITES}
    start_s = time.perf_counter()
    words = [sys.executable, "-m", "wardround.deploy.cli", "coordinator", "serve", str(study)]
    words += ["--credentials", str(hub), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as coordinator:
        assert coordinator.stdout is not None
        address = f"127.0.0.1:{coordinator.stdout.readline().split()[-1]}"
        sites = [
            subprocess.Popen([sys.executable, __file__, "--site", site_id, str(folder), address])
            for site_id, folder in own.items()
        ]
        codes = [process.wait() for process in (*sites, coordinator)]
        total_s = time.perf_counter() - start_s
    if any(codes):
        raise SystemExit(f"a process failed: exit statuses {codes}")
    assert len(read_events(study / "journal")) == 1 + 6 * 7 + 6 * 2 + 1
    return total_s, _hops(study / "journal")


def _hops(journal: Path) -> list[float]:
    """Return the seconds of each visit, from lease to commit."""
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    leased = [
        datetime.fromisoformat(line["at"]) for line in lines if "VisitLeased" in str(line["event"])
    ]
    committed = [
        datetime.fromisoformat(line["at"])
        for line in lines
        if "VisitCommitted" in str(line["event"])
    ]
    return [(end - start).total_seconds() for start, end in zip(leased, committed, strict=True)]


class EmptySite:
    """A `SiteGateway` that returns the parent checkpoint and a prompt of zeros."""

    def __init__(self, site_id: str) -> None:
        self._site_id = site_id

    def visit(self, data: bytes, link: CoordinatorLink) -> None:
        """Fetch every part, deliver the prompt, commit."""
        order = codec.decode_visit_order(data)
        for part in order.parent.parts:
            list(verified(part, link.fetch(part)))
        own = part_ref(f"prompt.{self._site_id}", PART)
        upload = codec.encode(
            CheckpointUpload(
                visit=order.visit,
                site_id=self._site_id,
                checkpoint=ref_of([*order.parent.parts, own]),
            )
        )
        link.deliver(upload, own.name, PART)
        report = VisitReport(
            visit=order.visit, site_id=self._site_id, num_train=10, metrics={}, phase_seconds={}
        )
        link.commit(codec.encode(report), upload)

    def evaluate(self, data: bytes, link: CoordinatorLink) -> None:
        """Fetch the segmenter, say any score."""
        order = codec.decode_evaluation_order(data)
        (part,) = (part for part in order.checkpoint.parts if part.name == "segmenter")
        list(verified(part, link.fetch(part)))
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


def _be_site(site_id: str, folder: str, address: str) -> None:
    from wardround.shared.connection import Connection
    from wardround.site_client.dial import work

    own = read_credentials(Path(folder))
    with Connection(address, own) as connection:
        work(connection, own, EmptySite(site_id), site_id=site_id, plan=PLAN, manifest=MANIFEST)


if __name__ == "__main__":
    main()
