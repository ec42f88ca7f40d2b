"""A study of three sites whose checkpoints are a few numbers, and the messages its sites send."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from wardround.server import events
from wardround.server.journal import Journal
from wardround.server.relay import Relay
from wardround.server.store import ArtefactStore
from wardround.shared import checkpoint
from wardround.shared.checkpoint import Manifest
from wardround.shared.messages import (
    CheckpointRef,
    CheckpointUpload,
    ClassScore,
    EvaluationReport,
    Metric,
    Phase,
    TensorSpec,
    VisitReport,
)
from wardround.shared.plan import StudyPlan
from wardround.shared.trail import Trail


@dataclass(frozen=True, kw_only=True)
class World:
    plan: StudyPlan
    manifest: Manifest

    @property
    def sites(self) -> tuple[str, ...]:
        return self.plan.sites

    def parts(self, visit: int, **changed: bytes) -> Mapping[str, bytes]:
        """The files of the checkpoint that `visit` made; a prompt keeps what its visit gave."""
        parts = {
            "segmenter": save({"w": np.full((2, 2), visit, np.float32)}),
            "denoiser": save({"w": np.full(3, visit, np.float32)}),
        }
        for number, site_id in enumerate(self.sites[:visit], start=1):
            parts[f"prompt.{site_id}"] = save({"tokens": np.full((1, 2), number, np.float32)})
        return {**parts, **{name.replace("_", "."): data for name, data in changed.items()}}

    def ref(self, visit: int, **changed: bytes) -> CheckpointRef:
        return refer(self.parts(visit, **changed))

    def upload(self, visit: int, **changed: bytes) -> CheckpointUpload:
        return CheckpointUpload(
            visit=visit, site_id=self.sites[visit - 1], checkpoint=self.ref(visit, **changed)
        )

    def report(self, visit: int, *, dice: float = 0.5, seconds: float = 1.0) -> VisitReport:
        return VisitReport(
            visit=visit,
            site_id=self.sites[visit - 1],
            num_train=10,
            metrics={Metric.DICE_AFTER: dice},
            phase_seconds={Phase.SEGMENTER: seconds},
        )

    def evaluation(self, visit: int, site_id: str, *, dice: float = 0.25) -> EvaluationReport:
        score = ClassScore(
            class_name="organ", dice=dice, hd95_mm=None, asd_mm=None, num_undefined=4
        )
        return EvaluationReport(
            visit=visit,
            site_id=site_id,
            checkpoint_digest=self.ref(visit).digest,
            num_cases=4,
            classes=(score,),
            data_digest="ab" * 32,
        )

    def events(self) -> list[events.Event]:
        """Every event of the whole study."""
        happened: list[events.Event] = [
            events.StudyCreated(
                plan=self.plan.canonical().decode(),
                plan_digest=self.plan.digest(),
                manifest=self.manifest,
                genesis=self.ref(0),
            )
        ]
        for visit in range(len(self.sites) + 1):
            if visit:
                happened += [
                    events.VisitLeased(
                        visit=visit,
                        site_id=self.sites[visit - 1],
                        parent=self.ref(visit - 1).digest,
                    ),
                    events.VisitCommitted(checkpoint=self.ref(visit), report=self.report(visit)),
                ]
            happened += [
                events.SiteEvaluated(report=self.evaluation(visit, site_id))
                for site_id in self.sites
            ]
        return [*happened, events.StudyCompleted(checkpoint=self.ref(len(self.sites)).digest)]

    def relay(self, folder: Path) -> Relay:
        """A relay in `folder` whose study is created."""
        relay = Relay(
            Journal(folder / "journal"),
            ArtefactStore(folder / "checkpoints"),
            Trail(folder / "audit", holder="wardround://coordinator/coordinator"),
        )
        relay.create_study(self.plan, self.manifest, self.parts(0))
        return relay


def refer(parts: Mapping[str, bytes]) -> CheckpointRef:
    return checkpoint.ref_of(checkpoint.part_ref(name, data) for name, data in parts.items())


@pytest.fixture
def world(tiny_plan: StudyPlan) -> World:
    return World(
        plan=tiny_plan,
        manifest=Manifest(
            parts={
                "segmenter": (TensorSpec(name="w", shape=(2, 2), dtype="F32"),),
                "denoiser": (TensorSpec(name="w", shape=(3,), dtype="F32"),),
            },
            prompt=(TensorSpec(name="tokens", shape=(1, 2), dtype="F32"),),
        ),
    )
