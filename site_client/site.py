"""A site: takes an order, carries it out on its own data, lets the guard release the answer."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from wardround.shared import codec
from wardround.shared.checkpoint import (
    PROMPT,
    Manifest,
    judged_parts,
    ref_of,
    verified,
    verify_header,
    verify_parts,
)
from wardround.shared.formal_dp import guarantee_of
from wardround.shared.identity import Role, uri_of
from wardround.shared.link import CoordinatorLink
from wardround.shared.messages import (
    Anchor,
    CheckpointUpload,
    EvaluationReport,
    PartRef,
    Phase,
    Progress,
    VisitOrder,
    VisitReport,
)
from wardround.shared.plan import StudyPlan
from wardround.shared.trail import AUDIT, Trail
from wardround.shared.trail_lines import LineKind
from wardround.site_client.data.cases import SiteData, digest_of
from wardround.site_client.data.preprocess import to_samples
from wardround.site_client.learning.judging import judge_of
from wardround.site_client.memo import Memo
from wardround.site_client.privacy.approval import expect_approved
from wardround.site_client.privacy.content_check import ContentCheck
from wardround.site_client.privacy.egress import EgressGuard
from wardround.site_client.privacy.image_search import ImageSearch
from wardround.site_client.privacy.inspection import Inspection
from wardround.site_client.privacy.memorisation import Limits
from wardround.site_client.privacy.policy import SitePolicy
from wardround.site_client.privacy.secret_stream import secret_in
from wardround.site_client.visit import Visit

PROGRESS_LINES = 50


class Site:
    """One hospital's client; the `SiteGateway` that engines talk to.

    Args:
        plan: The plan; no order is carried out before it is approved here.
        data: Its cases.
        manifest: What a checkpoint of the study may hold.
        workspace: Folder for the audit trail and the memo; made where it is missing.
        policy: What the site demands beyond the plan.
        borrowed: Other sites' cases; a simulation hands them to methods that keep real cases.
        memo: Where finished phases are kept; `workspace`/memo where left out.
    """

    def __init__(
        self,
        plan: StudyPlan,
        data: SiteData,
        manifest: Manifest,
        *,
        workspace: Path,
        policy: SitePolicy = SitePolicy(),  # noqa: B008 - frozen
        borrowed: Mapping[str, SiteData] | None = None,
        memo: Path | None = None,
    ) -> None:
        policy.expect_enough_cases(data.site_id, len(data.train) + len(data.heldout))
        workspace.mkdir(parents=True, exist_ok=True)
        self.plan, self.data, self.manifest = plan, data, manifest
        self.borrowed = dict(borrowed or {})
        self.memo = Memo(memo or workspace / "memo")
        self._limits = Limits(
            max_copy_rate=policy.most_copies(plan),
            max_membership_auc=policy.most_membership(plan),
            may_release_untold=policy.may_release_untold(plan),
        )
        self.trail = Trail(workspace / AUDIT, holder=uri_of(Role.SITE, data.site_id))
        self.workspace = workspace
        self.guard = EgressGuard(
            plan, manifest, site_id=data.site_id, trail=self.trail, policy=policy
        )

    def visit(self, order: bytes, link: CoordinatorLink) -> None:
        """Carry out an encoded `VisitOrder` and commit.

        Raises:
            WardroundError: Whatever stopped it; nothing was committed.
        """
        expect_approved(self.trail, self.plan)
        message = codec.decode_visit_order(order)
        self.guard.begin(message, _anchor_of(link))
        self.memo.forget(message.withdrawn)
        watch = _Watch(self.guard, link, message.visit, self.data.site_id)
        watch(Phase.FETCH, 0, 0)
        expected = self.manifest.expected(message.visited)
        verify_parts(message.parent, expected)
        # A site's labeller may be the segmenter that left it: one file under two names.
        files = {part.digest: part for part in message.parent.parts}
        fetched = {digest: _fetch(link, part) for digest, part in files.items()}
        parent = {part.name: fetched[part.digest] for part in message.parent.parts}
        for name, data in parent.items():
            verify_header(name, data, *expected[name])
        self.guard.look_into_parts(
            ContentCheck(self.plan, self.data.site_id, parent, self._own_images)
        )
        self._prepare_torch()
        is_private = guarantee_of(self.plan, message.visited) is not None
        visit = Visit(
            order=message,
            plan=self.plan,
            data=self.data,
            parent=parent,
            borrowed={s: d for s, d in self.borrowed.items() if s not in message.withdrawn},
            memo=self.memo,
            limits=self._limits,
            note=lambda inspection, made: self._note(message, inspection, made),
            watch=watch,
            secret=secret_in(self.workspace) if is_private else None,
        )
        parts = visit.run()
        watch(Phase.RELEASE, 0, 0)
        changed = {name: data for name, data in parts.items() if parent.get(name) != data}
        kept = [part for part in message.parent.parts if part.name not in changed]
        released = [self.guard.release_part(name, data) for name, data in changed.items()]
        upload = self.guard.release(
            CheckpointUpload(
                visit=message.visit,
                site_id=self.data.site_id,
                checkpoint=ref_of([*kept, *released]),
            )
        )
        for name in {part.digest: part.name for part in released}.values():
            link.deliver(upload, name, changed[name])
        report = VisitReport(
            visit=message.visit,
            site_id=self.data.site_id,
            num_train=len(self.data.train),
            metrics=visit.metrics,
            phase_seconds=visit.seconds,
        )
        link.commit(self.guard.release(report), upload)

    def evaluate(self, order: bytes, link: CoordinatorLink) -> None:
        """Carry out an encoded `EvaluationOrder`: score the checkpoint on the held-out cases.

        Raises:
            WardroundError: Whatever stopped it; nothing was reported.
        """
        expect_approved(self.trail, self.plan)
        message = codec.decode_evaluation_order(order)
        self.guard.begin(message, _anchor_of(link))
        self.memo.forget(message.withdrawn)
        watch = _Watch(self.guard, link, message.visit, self.data.site_id)
        judged = judged_parts(message.checkpoint, self.plan, self.data.site_id)
        parts = {part.name: _fetch(link, part) for part in judged}
        for name, data in parts.items():
            verify_header(name, data, *self.manifest.forms_of(name))
        self._prepare_torch()
        scores = judge_of(parts, self.plan, self.data.site_id).scores(
            self.data.heldout, lambda step, steps: watch(Phase.EVALUATE, step, steps)
        )
        report = EvaluationReport(
            visit=message.visit,
            site_id=self.data.site_id,
            checkpoint_digest=message.checkpoint.digest,
            num_cases=len(self.data.heldout),
            classes=scores.classes,
            folds=scores.folds,
            tre_mm=scores.tre_mm,
            data_digest=self._heldout_digest(),
        )
        link.evaluated(self.guard.release(report))

    def _note(self, order: VisitOrder, inspection: Inspection, parts: Mapping[str, bytes]) -> None:
        """Write into the site's audit trail what the memorisation audit found in a denoiser."""
        prompt = PROMPT + order.site_id
        made = {name: hashlib.sha256(parts[name]).hexdigest() for name in ("denoiser", prompt)}
        self.trail.append(
            LineKind.AUDITED,
            {
                "visit": order.visit,
                "study": order.study_id,
                **made,
                **inspection.facts(self._limits),
            },
        )

    @cached_property
    def _own_images(self) -> ImageSearch:
        """Return all images of this site, ready to be looked for in what leaves."""
        cases = (*self.data.train, *self.data.heldout)
        samples = [to_samples(case, self.plan.task).images_NCX.numpy() for case in cases]
        return ImageSearch([case.image_CHWD for case in cases], samples)

    def _heldout_digest(self) -> str:
        """Return what names the held-out cases within this study and means nothing outside it."""
        keyed = f"{self.plan.digest()}:{digest_of(self.data.heldout)}"
        return hashlib.sha256(keyed.encode()).hexdigest()

    def _prepare_torch(self) -> None:
        """Fix what decides whether two runs are bit-equal."""
        torch.set_num_threads(self.plan.compute.threads)
        torch.use_deterministic_algorithms(True)
        # Libraries may choose their code when first called: better here than on two threads.
        square = torch.ones((64, 64))
        torch.nn.functional.conv2d((square @ square)[None, None], square[None, None, :3, :3])


@dataclass
class _Watch:
    """Send progress through the guard, at most some fifty lines a phase."""

    guard: EgressGuard
    link: CoordinatorLink
    visit: int
    site_id: str
    last: tuple[Phase, int, int] | None = None

    def __call__(self, phase: Phase, step: int, total: int) -> None:
        """Take any steps in order; a phase that is looked at now and then skips some."""
        if self.last is not None and self.last[0] == phase and self.last[2] == total:
            since = step - self.last[1]
            if since == 0 or (since < max(1, total // PROGRESS_LINES) and step != total):
                return
        self.last = (phase, step, total)
        self.link.progress(
            self.guard.release(
                Progress(
                    visit=self.visit, site_id=self.site_id, phase=phase, step=step, total=total
                )
            )
        )


def _anchor_of(link: CoordinatorLink) -> Anchor | None:
    head = link.trail_head()
    return codec.decode_anchor(head) if head else None


def _fetch(link: CoordinatorLink, part: PartRef) -> bytes:
    return b"".join(verified(part, link.fetch(part)))
