"""One visit, top to bottom: what a site does when the model comes round.

Fetch the parent checkpoint, score it, draw replay of earlier sites, train the segmenter on own
cases and replay and, side by side with it, the denoiser and the own prompt, look whether these
remember cases, score the result, release it through the egress guard, commit. Each phase is a pure
function of its inputs, kept in the memo, so that a visit cut anywhere ends in the same bytes.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from wardround.shared import seeds
from wardround.shared.checkpoint import ENCODER, PROMPT
from wardround.shared.formal_dp import covers_segmenter
from wardround.shared.messages import Metric, Phase, VisitOrder
from wardround.shared.plan import StudyPlan
from wardround.shared.plan_method import GROWS_DECODERS
from wardround.site_client.audit_phase import AuditPhase
from wardround.site_client.data.cases import SiteData
from wardround.site_client.decoder_phase import DecoderPhase
from wardround.site_client.denoiser_phase import Denoised, DenoiserPhase
from wardround.site_client.learning.generator_training import Remembered
from wardround.site_client.learning.judging import judge_of
from wardround.site_client.learning.pool import Pool
from wardround.site_client.learning.task_kinds import kind_of
from wardround.site_client.memo import Memo, Result
from wardround.site_client.privacy.inspection import Inspection
from wardround.site_client.privacy.memorisation import Limits
from wardround.site_client.replay_phase import ReplayPhase
from wardround.site_client.segmenter_phase import SegmenterPhase
from wardround.site_client.side_by_side import alongside
from wardround.site_client.training_pools import TrainingPools

Watch = Callable[[Phase, int, int], None]


@dataclass(kw_only=True)
class Visit:
    """Everything one visit is made from, and the numbers it collects on the way.

    Attributes:
        order: What the coordinator asked for.
        plan: The study plan that this site approved.
        data: The site's own cases.
        parent: Part name to safetensors bytes of the parent checkpoint.
        borrowed: Other sites' cases, by site; a simulation gives them to methods that keep cases.
        memo: Where finished phases are kept.
        limits: What the memorisation audit lets pass.
        note: Told of each denoiser that was audited, with its parts.
        watch: Called with (phase, step, steps).
        secret: The site's, where the prompt is to have a differential privacy guarantee.
    """

    order: VisitOrder
    plan: StudyPlan
    data: SiteData
    parent: Mapping[str, bytes]
    borrowed: Mapping[str, SiteData]
    memo: Memo
    limits: Limits
    note: Callable[[Inspection, Mapping[str, bytes]], None]
    watch: Watch
    secret: bytes | None = None
    metrics: dict[Metric, float] = field(default_factory=dict)
    seconds: dict[Phase, float] = field(default_factory=dict)
    saved_seconds: float = 0.0

    def run(self) -> dict[str, bytes]:
        """Make the visit and return the parts of the new checkpoint."""
        with self._phase(Phase.EVALUATE_PARENT) as watch:
            self.metrics[Metric.DICE_BEFORE] = self._dice(self.parent, watch)
        with self._phase(Phase.REPLAY) as watch:
            remembered = self._replay(watch)
        parts = self._grow() if self.plan.method.name == GROWS_DECODERS else self._train(remembered)
        if "denoiser" in parts and self.plan.audit.samples:
            with self._phase(Phase.AUDIT):
                parts |= self._inspected(parts, remembered)
        made = {**self.parent, **parts}
        with self._phase(Phase.EVALUATE) as watch:
            self.metrics[Metric.DICE_AFTER] = self._dice(made, watch)
        return made

    def _grow(self) -> dict[str, bytes]:
        """Train and trim the own decoder; at the first site, train the encoder with it."""
        sections = self._sections("task", "segmenter", "augmentation", "method", "compute")
        encoder = self._digests(ENCODER)
        phase = DecoderPhase(
            plan=self.plan,
            site_id=self.order.site_id,
            cases=self.data.train,
            parent=self.parent,
            is_first=not self.order.visited,
            recall=self._recall,
            key=partial(self._key, parent=encoder, sections=sections),
            stream=self._stream,
        )
        with self._phase(Phase.SEGMENTER) as watch:
            full, self.metrics[Metric.SEGMENTER_LOSS] = phase.teach(watch)
        with self._phase(Phase.TRIM) as watch:
            chosen = phase.trim(full, watch)
        self.metrics[Metric.DECODER_SIZE_SHARE] = phase.size_share(chosen)
        return phase.parts(chosen)

    def _dice(self, parts: Mapping[str, bytes], watch: Callable[[int, int], None]) -> float:
        """Return the mean Dice of a checkpoint on the own held-out cases."""
        judge = judge_of(parts, self.plan, self.data.site_id)
        return judge.scores(self.data.heldout, watch).dice

    def _replay(self, watch: Callable[[int, int], None]) -> list[Remembered]:
        """Draw pairs from every earlier site's prompt, in the order of the lineage."""
        if "denoiser" not in self.parent or not self.order.visited:
            return []
        remembered = self._drawn_under(self.parent, self.order.visited, watch)
        pairs = self.plan.replay.samples_per_site * len(remembered)
        self.metrics[Metric.REPLAYED_PAIRS] = float(pairs)
        return remembered

    def _drawn_under(
        self,
        parts: Mapping[str, bytes],
        sites: Sequence[str],
        watch: Callable[[int, int], None],
        **more: Any,
    ) -> list[Remembered]:
        """Draw pairs under the prompts of `sites` in `parts`; `more` goes into the memo's keys."""
        phase = ReplayPhase(plan=self.plan, parent=parts, memo=self.memo)
        remembered, saved_seconds = phase.run(
            sites,
            key=lambda site_id: self._key(
                "replay",
                site=site_id,
                denoiser_of=self._digests("denoiser", PROMPT + site_id),
                **more,
            ),
            stream=lambda site_id: self._stream("replay", site_id),
            watch=watch,
        )
        self.saved_seconds += saved_seconds
        return remembered

    def _train(self, remembered: list[Remembered]) -> dict[str, bytes]:
        """Train segmenter and denoiser side by side: neither needs what the other becomes."""
        if "denoiser" not in self.parent:
            with self._phase(Phase.SEGMENTER) as watch:
                return self._train_segmenter(self._own_samples(), remembered, watch)
        if covers_segmenter(self.plan, self.order.visited):
            return self._train_on_drawn(remembered)
        with alongside(lambda watch: self._train_denoiser(remembered, 0, watch)) as denoiser:
            with self._phase(Phase.SEGMENTER) as watch:
                parts = self._train_segmenter(self._own_samples(), remembered, watch)
            self.watch(Phase.DENOISER, 0, 0)
            trained = denoiser.wait(lambda step, steps: self.watch(Phase.DENOISER, step, steps))
        # What the denoiser took longer than the segmenter, so that phases add up to the visit.
        self.seconds[Phase.DENOISER] = max(0.0, trained.seconds - self.seconds[Phase.SEGMENTER])
        self._report_loss(trained)
        return parts | trained.parts

    def _train_on_drawn(self, remembered: list[Remembered]) -> dict[str, bytes]:
        """Train the own prompt, then the segmenter on its pairs: a function of what is covered."""
        site = self.order.site_id
        with self._phase(Phase.DENOISER) as watch:
            prompted = self._train_denoiser(remembered, 0, watch).parts
        digest = hashlib.sha256(prompted[PROMPT + site]).hexdigest()
        with self._phase(Phase.SEGMENTER) as watch:
            parts, still = {**self.parent, **prompted}, lambda _done, _all: None
            own = self._drawn_under(parts, [site], still, prompt=digest)[0].pairs
            return prompted | self._train_segmenter(own, remembered, watch, drawn_under=digest)

    def _train_segmenter(
        self,
        own: Pool,
        remembered: list[Remembered],
        watch: Callable[[int, int], None],
        **more: Any,
    ) -> dict[str, bytes]:
        """Train the segmenter on `own` and replay; `more` goes into the memo's key."""
        phase = SegmenterPhase(
            plan=self.plan,
            site_id=self.order.site_id,
            parent=self.parent,
            pools=self._pools,
            recall=self._recall,
            stream=self._stream,
        )
        key = self._key(
            "segmenter",
            parent=self._digests(),
            sections=self._sections(
                "task", "compute", "segmenter", "augmentation", "method", "replay"
            ),
            borrowed=[
                (site, self.borrowed[site].digest)
                for site in self.plan.sites
                if site in self.borrowed
            ],
            **more,
        )
        trained = phase.run(own, remembered, key=key, watch=watch)
        self.metrics |= trained.metrics
        return trained.parts

    def _train_denoiser(
        self, remembered: list[Remembered], attempt: int, watch: Callable[[int, int], None]
    ) -> Denoised:
        """Train the denoiser and the own prompt; runs on a thread of its own, changes nothing."""
        prompts = [PROMPT + site for site in self.order.visited]
        phase = DenoiserPhase(
            plan=self.plan,
            data=self.data,
            parent=self.parent,
            memo=self.memo,
            key=partial(self._key, parent=self._digests("denoiser", *prompts)),
            stream=self._stream,
            secret=self.secret,
        )
        return phase.run(remembered, attempt, watch)

    def _own_samples(self) -> Pool:
        return self._pools.samples(self.data)

    @property
    def _pools(self) -> TrainingPools:
        return TrainingPools(self.plan, self.order.visited, self.parent, self.borrowed)

    def _inspected(
        self, parts: dict[str, bytes], remembered: list[Remembered]
    ) -> Mapping[str, bytes]:
        """Return the parts with a denoiser that may leave, trained anew as often as allowed."""

        def candidates() -> Iterator[Mapping[str, bytes]]:
            yield parts
            # Another prompt under differential privacy would have to be paid for from the budget.
            retries = self.plan.audit.retries if self.secret is None else 0
            for attempt in range(1, retries + 1):
                trained = self._train_denoiser(remembered, attempt, lambda _step, _steps: None)
                self._report_loss(trained)
                yield {**parts, **trained.parts}

        phase = AuditPhase(plan=self.plan, data=self.data, limits=self.limits, note=self.note)
        key = self._key("audit", samples=self.plan.audit.samples)
        passed, inspection = phase.run(
            candidates(), key=key, recall=self._recall, stream=lambda: self._stream("audit")
        )
        if self.secret is None:  # else they are numbers about the cases, made without noise
            self.metrics |= inspection.metrics()
        return passed

    def _report_loss(self, trained: Denoised) -> None:
        if trained.loss is not None:
            self.metrics[Metric.DENOISER_LOSS] = trained.loss

    def _recall(self, key: Mapping[str, Any], compute: Callable[[], Result]) -> Result:
        result = self.memo.recall(key, compute)
        self.saved_seconds += result.saved_seconds
        return result

    def _stream(self, purpose: str, *more: str) -> torch.Generator:
        """Return the generator for `purpose` at this place in the checkpoint's lineage."""
        seed = seeds.derive(self.plan.seed, *self.order.visited, self.order.site_id, purpose, *more)
        return torch.Generator().manual_seed(seed)

    def _key(self, purpose: str, *again: str, **more: Any) -> dict[str, Any]:
        """Return what determines the result of a phase of this visit."""
        return {
            "purpose": "/".join([purpose, *again]),
            "seed": self.plan.seed,
            "lineage": [*self.order.visited, self.order.site_id],
            "data": self.data.digest,
            "sections": self._sections("task", "denoiser", "compute")
            | {"samples": self.plan.replay.samples_per_site},
            "torch": torch.__version__,
            **kind_of(self.plan.task).facts(self.plan, [self.data, *self.borrowed.values()]),
            **more,
        }

    def _sections(self, *names: str) -> dict[str, Any]:
        return self.plan.model_dump(mode="json", include=set(names))

    def _digests(self, *names: str) -> dict[str, str]:
        """Return the digests of the named parts of the parent, or of all."""
        return {
            part.name: part.digest
            for part in self.order.parent.parts
            if not names or part.name in names
        }

    @contextmanager
    def _phase(self, phase: Phase) -> Iterator[Callable[[int, int], None]]:
        """Time a phase; what the memo spared counts as the time it took when it was computed."""
        self.watch(phase, 0, 0)
        start, saved = time.perf_counter(), self.saved_seconds
        yield lambda step, steps: self.watch(phase, step, steps)
        self.seconds[phase] = time.perf_counter() - start + self.saved_seconds - saved
