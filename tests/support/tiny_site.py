"""A site whose "training" is arithmetic on a few numbers, and the checkpoint that it starts from.

Journal, store, codec and egress guard are the real ones wherever it takes part.
"""

import itertools

import numpy as np
from safetensors.numpy import load, save

from wardround.shared import codec, seeds
from wardround.shared.checkpoint import Manifest, ref_of, verified
from wardround.shared.messages import (
    CheckpointUpload,
    ClassScore,
    EvaluationReport,
    Metric,
    Phase,
    Progress,
    TensorSpec,
    VisitReport,
)
from wardround.shared.trail import Trail
from wardround.site_client.privacy.egress import EgressGuard

MANIFEST = Manifest(
    parts={
        "segmenter": (TensorSpec(name="w", shape=(4,), dtype="F32"),),
        "denoiser": (TensorSpec(name="w", shape=(600, 500), dtype="F32"),),  # more than one chunk
    },
    prompt=(TensorSpec(name="tokens", shape=(2,), dtype="F32"),),
)
GENESIS = {
    "segmenter": save({"w": np.zeros(4, np.float32)}),
    "denoiser": save({"w": np.zeros((600, 500), np.float32)}),
}
# Of a study of three such sites: created, leased and committed, evaluated, completed.
NUM_EVENTS = 1 + 3 * 2 + 4 * 3 + 1


class TinySite:
    """A `SiteGateway` whose result depends on the parent, the site and the seed alone."""

    ticks = itertools.count(1)

    def __init__(self, plan, site_id, workspace):
        self.plan, self.site_id = plan, site_id
        workspace.mkdir(exist_ok=True)
        own = Trail(workspace / "audit", holder=f"wardround://site/{site_id}")
        self.guard = EgressGuard(plan, MANIFEST, site_id=site_id, trail=own)

    def visit(self, order, link):
        order = codec.decode_visit_order(order)
        self.guard.begin(order, codec.decode_anchor(link.trail_head()))
        parent = {
            part.name: b"".join(verified(part, link.fetch(part))) for part in order.parent.parts
        }
        progress = Progress(
            visit=order.visit, site_id=self.site_id, phase=Phase.SEGMENTER, step=1, total=2
        )
        link.progress(self.guard.release(progress))
        parts = self.train(parent)
        released = {n: self.guard.release_part(n, data) for n, data in parts.items()}
        kept = [part for part in order.parent.parts if part.name not in parts]
        upload = CheckpointUpload(
            visit=order.visit,
            site_id=self.site_id,
            checkpoint=ref_of([*kept, *released.values()]),
        )
        announcement = self.guard.release(upload)
        for name, data in parts.items():
            link.deliver(announcement, name, data)
        report = VisitReport(
            visit=order.visit,
            site_id=self.site_id,
            num_train=10,
            metrics={Metric.SEGMENTER_LOSS: float(load(parts["segmenter"])["w"].sum())},
            phase_seconds={Phase.SEGMENTER: float(next(self.ticks))},
        )
        link.commit(self.guard.release(report), announcement)

    def train(self, parent):
        draw = np.random.default_rng(seeds.derive(self.plan.seed, self.site_id))
        segmenter = load(parent["segmenter"])["w"] * 2 + draw.random(4, np.float32)
        denoiser = load(parent["denoiser"])["w"] + draw.random((600, 500), np.float32)
        prompt = draw.random(2, np.float32)
        return {
            "segmenter": save({"w": segmenter}),
            "denoiser": save({"w": denoiser}),
            f"prompt.{self.site_id}": save({"tokens": prompt}),
        }

    def evaluate(self, order, link):
        order = codec.decode_evaluation_order(order)
        self.guard.begin(order, codec.decode_anchor(link.trail_head()))
        (part,) = (part for part in order.checkpoint.parts if part.name == "segmenter")
        total = float(load(b"".join(verified(part, link.fetch(part))))["w"].sum())
        score = ClassScore(
            class_name="organ", dice=total / (1 + total), hd95_mm=1.0, asd_mm=None, num_undefined=0
        )
        report = EvaluationReport(
            visit=order.visit,
            site_id=self.site_id,
            checkpoint_digest=order.checkpoint.digest,
            num_cases=4,
            classes=(score,),
            data_digest="ab" * 32,
        )
        link.evaluated(self.guard.release(report))
