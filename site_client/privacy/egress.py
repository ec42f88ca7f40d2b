"""The egress guard: the one place at a site's rim where a message becomes bytes that leave.

It lets five kinds of message through. A refusal says why a site works for no order; the others are
held against the study plan, the manifest and the order the site is carrying out. It fails closed:
whatever goes wrong inside it, nothing leaves.
Every order, release and refusal is a line of the site's own audit trail, which holds no content.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

from wardround.shared import checkpoint, codec
from wardround.shared.checkpoint import LABELLER, PROMPT, Form, Manifest
from wardround.shared.errors import (
    AuditFailed,
    BudgetSpent,
    EgressRefused,
    NotApproved,
    NotPermitted,
    TrailError,
    WardroundError,
)
from wardround.shared.formal_dp import guarantee_of
from wardround.shared.messages import (
    Anchor,
    CheckpointUpload,
    EvaluationOrder,
    EvaluationReport,
    PartRef,
    Progress,
    Refusal,
    RefusalReason,
    VisitOrder,
    VisitReport,
)
from wardround.shared.plan import StudyPlan
from wardround.shared.tensor_check import verify_part
from wardround.shared.trail import Trail
from wardround.shared.trail_lines import Fact, LineKind
from wardround.site_client.privacy import rounding
from wardround.site_client.privacy.ledger import Ledger
from wardround.site_client.privacy.policy import SitePolicy

MESSAGE_BUDGET_BYTES = 2**20  # of all reports and progress of one order
Outgoing = Progress | CheckpointUpload | VisitReport | EvaluationReport
_K = TypeVar("_K")


class ContentCheck(Protocol):
    """Looks into parts for what no training puts there."""

    def __call__(self, name: str, data: bytes) -> None:
        """Look at the file of the part `name`.

        Raises:
            EgressRefused: It holds what it may not.
        """
        ...

    def expect_one_training(self, digests: Mapping[str, str]) -> None:
        """Look at the parts that are to be announced together, name -> digest.

        Raises:
            EgressRefused: They do not come from one training.
        """
        ...


class EgressGuard:
    """What may leave one site, order by order.

    Args:
        plan: The study plan that was approved at this site.
        manifest: The tensors a checkpoint of this study may hold.
        site_id: The site whose rim this is.
        trail: Gets one line for each order, release and refusal.
        policy: What the site demands beyond the plan.
    """

    def __init__(
        self,
        plan: StudyPlan,
        manifest: Manifest,
        *,
        site_id: str,
        trail: Trail,
        policy: SitePolicy = SitePolicy(),  # noqa: B008 - frozen
    ) -> None:
        self._plan = plan
        self._manifest = manifest
        self._site_id = site_id
        self._trail = trail
        self._policy = policy
        self._ledger = Ledger(trail, policy)
        self._order: VisitOrder | EvaluationOrder | None = None
        self._last_visit: VisitOrder | None = None
        self._released: dict[str, PartRef] = {}
        self._released_bytes = 0
        self._said: set[str] = set()
        self._said_bytes = 0
        self._content_check: ContentCheck | None = None

    def begin(self, order: VisitOrder | EvaluationOrder, anchor: Anchor | None = None) -> None:
        """Take the order that everything released from here on must belong to.

        The byte budget starts anew with each visit, not with a repeated order for the same visit.

        Args:
            order: What the coordinator asked for.
            anchor: Head of the coordinator's audit trail, as it came with the order.

        Raises:
            EgressRefused: The order is for another site or another plan than the approved one.
            NotPermitted: The site's privacy budget does not allow the visit.
        """
        what = "visit" if isinstance(order, VisitOrder) else "evaluation"
        try:
            self._expect_approved(order)
            if isinstance(order, VisitOrder):
                self._ledger.expect_room(self._plan, order)
        except (EgressRefused, NotPermitted) as error:
            why = type(error).__name__
            self._record(
                LineKind.REFUSED, {"visit": order.visit, "what": f"{what} order", "why": why}
            )
            raise
        given = order.parent if isinstance(order, VisitOrder) else order.checkpoint
        if isinstance(order, VisitOrder) and order != self._last_visit:
            self._last_visit, self._released, self._released_bytes = order, {}, 0
        if order != self._order:
            self._said, self._said_bytes = set(), 0
        self._order, self._content_check = order, None
        self._record(
            LineKind.ORDERED,
            {
                "what": what,
                "study": order.study_id,
                "plan": order.plan_digest,
                "checkpoint": given.digest,
                "anchor": None if anchor is None else [anchor.seq, anchor.digest],
            },
        )

    def look_into_parts(self, check: ContentCheck) -> None:
        """Show `check` every part that is to be released under the current order."""
        self._content_check = check

    def _expect_approved(self, order: VisitOrder | EvaluationOrder) -> None:
        if order.site_id != self._site_id:
            raise EgressRefused(
                f"site '{self._site_id}' got an order for site '{order.site_id}'. "
                f"The coordinator mixed up its sites; nothing was done."
            )
        if order.plan_digest != self._plan.digest():
            raise EgressRefused(
                f"site '{self._site_id}' approved plan {self._plan.digest()}, the order is for "
                f"plan {order.plan_digest}. Compare the plans and approve the right one."
            )

    def release(self, message: Outgoing) -> bytes:
        """Return the bytes of a message that may leave, rounded and with small counts suppressed.

        Raises:
            EgressRefused: The message may not leave, or the guard failed.
        """
        kind = type(message).__name__

        def judge() -> tuple[bytes, str]:
            encoded = codec.encode(self._checked(message))
            said = hashlib.sha256(encoded).hexdigest()
            self._expect_message_budget(said, len(encoded))
            return encoded, said

        data, digest = self._closed(kind, judge)
        self._released_is(kind, len(data), digest)
        if digest not in self._said:
            self._said.add(digest)
            self._said_bytes += len(data)
        return data

    def release_part(self, name: str, data: bytes) -> PartRef:
        """Return the reference of a part that may leave: the manifest's tensors, all finite.

        Parts come before the `CheckpointUpload` that lists them. A part that is the parent's, byte
        for byte, need not be released again.

        Args:
            name: Part name, such as "segmenter" or the site's own "prompt.<site_id>".
            data: The safetensors file.

        Raises:
            EgressRefused: The part may not leave, exceeds the byte budget, or the guard failed.
        """

        def judge() -> PartRef:
            return self._checked_part(name, data)

        part = self._closed("part", judge)
        self._released_is(f"part {part.name}", part.size_bytes, part.digest)
        if self._released.get(name) != part:
            self._released[name] = part
            self._released_bytes += part.size_bytes
        return part

    def _closed(self, kind: str, judge: Callable[[], _K]) -> _K:
        try:
            return judge()
        except WardroundError as error:
            self._refused_is(kind, error)
            if isinstance(error, EgressRefused):
                raise
            raise EgressRefused(f"site '{self._site_id}' released nothing: {error}") from error
        except Exception as error:  # whatever fails in here, nothing may leave
            self._refused_is(kind, error)
            raise EgressRefused(
                f"site '{self._site_id}' released nothing: the egress guard failed with "
                f"{type(error).__name__}. The site's own log has the details."
            ) from error

    def _checked(self, message: Outgoing) -> Outgoing:
        if type(message) not in (Progress, CheckpointUpload, VisitReport, EvaluationReport):
            raise EgressRefused(
                f"a {type(message).__name__} may not leave a site; only Progress, "
                f"CheckpointUpload, VisitReport and EvaluationReport may. Send one of these."
            )
        order = self._current()
        if (message.site_id, message.visit) != (self._site_id, order.visit):
            raise EgressRefused(
                f"a {type(message).__name__} of site {ascii(message.site_id)[:80]}, visit "
                f"{ascii(message.visit)[:80]} may not leave site '{self._site_id}', which carries "
                f"out visit {order.visit}. "
                f"A site speaks of its current order alone."
            )
        match message:
            case Progress():
                return rounding.rounded_progress(message, order, self._plan, self._smallest_count)
            case CheckpointUpload():
                return self._checked_upload(message, self._visit_order())
            case VisitReport():
                asked = self._visit_order()
                rounded = rounding.rounded_visit(message, asked, self._plan, self._smallest_count)
                guarantee = guarantee_of(self._plan, asked.visited)
                return replace(rounded, trail=self._trail.head(), guarantee=guarantee)
            case EvaluationReport():
                self._expect_ordered(message)
                scored = rounding.rounded_evaluation(message, self._smallest_count)
                return replace(scored, trail=self._trail.head())

    def _checked_upload(self, upload: CheckpointUpload, order: VisitOrder) -> CheckpointUpload:
        checkpoint.verify_parts(upload.checkpoint, self._expected(order))
        parent = {part.name: part for part in order.parent.parts}
        for part in upload.checkpoint.parts:
            if part not in (self._released.get(part.name), parent.get(part.name)):
                raise EgressRefused(
                    f"part '{part.name}' of the checkpoint was neither released in this visit "
                    f"nor is it the parent's. Release every part before the upload is announced."
                )
        digests = {part.name: part.digest for part in upload.checkpoint.parts}
        if self._content_check is not None:
            self._content_check.expect_one_training(digests)
        elif digests.get(LABELLER + self._site_id) not in (None, digests.get("segmenter")):
            raise EgressRefused(
                f"part '{LABELLER}{self._site_id}' is not the segmenter that leaves this site, and "
                f"nothing has looked whether one was made from the other. Look into parts first."
            )
        return upload

    def _checked_part(self, name: str, data: bytes) -> PartRef:
        expected = self._expected(self._visit_order())
        if name not in expected:
            raise EgressRefused(
                f"part {ascii(name)[:80]} is not in the manifest; expected one of "
                f"{', '.join(sorted(expected))}. Both sides must run the same release and plan."
            )
        _, _, of_site = name.partition(".")
        if of_site not in ("", self._site_id):
            raise EgressRefused(
                f"part '{name}' is of another site. A visit makes the parts of its own site alone; "
                f"leave the others as they came."
            )
        part = checkpoint.part_ref(name, data)
        again = self._released.get(name) == part
        total = self._released_bytes + (0 if again else part.size_bytes)
        most = self._policy.most_bytes(self._plan)
        if total > most:
            raise EgressRefused(
                f"with part '{name}' the visit would release {total} bytes, allowed are {most}. "
                f"Raise byte_budget in the plan's [release] and in the site's policy, or use "
                f"smaller networks."
            )
        verify_part(part, data, *expected[name])
        if self._content_check is not None:
            self._content_check(name, data)
        if name == PROMPT + self._site_id:
            self._ledger.charge(self._plan, self._visit_order(), part.digest)
        return part

    def _expect_ordered(self, report: EvaluationReport) -> None:
        order = self._current()
        ordered = order.checkpoint if isinstance(order, EvaluationOrder) else None
        if ordered is None or report.checkpoint_digest != ordered.digest:
            raise EgressRefused(
                f"site '{self._site_id}' was not asked to evaluate checkpoint "
                f"{ascii(report.checkpoint_digest)[:80]}. Report on the checkpoint of the order."
            )
        names = tuple(score.class_name for score in report.classes)
        expected = self._plan.task.classes_of(self._site_id)
        if names != expected:
            raise EgressRefused(
                f"an evaluation report must have the plan's classes "
                f"{list(expected)} in this order; it has {len(names)} "
                f"others. Both sides must run the same plan."
            )

    def _expect_message_budget(self, digest: str, size_bytes: int) -> None:
        total = self._said_bytes + (0 if digest in self._said else size_bytes)
        if total > MESSAGE_BUDGET_BYTES:
            raise EgressRefused(
                f"the messages of one order would come to {total} bytes, allowed are "
                f"{MESSAGE_BUDGET_BYTES}. No visit says that much; look at what repeats itself."
            )

    @property
    def _smallest_count(self) -> int:
        return self._policy.smallest_count(self._plan)

    def _expected(self, order: VisitOrder) -> Mapping[str, tuple[Form, ...]]:
        return self._manifest.expected((*order.visited, self._site_id))

    def _current(self) -> VisitOrder | EvaluationOrder:
        if self._order is None:
            raise EgressRefused(
                f"site '{self._site_id}' carries out no order, so nothing may leave. "
                f"Begin one first."
            )
        return self._order

    def _visit_order(self) -> VisitOrder:
        order = self._current()
        if not isinstance(order, VisitOrder):
            raise EgressRefused(
                f"site '{self._site_id}' was asked to evaluate, so no checkpoint and no visit "
                f"report may leave. Send them during a visit."
            )
        return order

    def _released_is(self, what: str, size_bytes: int, digest: str) -> None:
        self._record(LineKind.RELEASED, {"what": what, "size_bytes": size_bytes, "digest": digest})

    def _refused_is(self, what: str, error: Exception) -> None:
        self._record(LineKind.REFUSED, {"what": what, "why": type(error).__name__})

    def _record(self, kind: LineKind, facts: Mapping[str, Fact]) -> None:
        visit = self._order.visit if self._order else None
        try:
            self._trail.append(kind, {"visit": visit, **facts})
        except TrailError as error:
            raise EgressRefused(
                f"site '{self._site_id}' released nothing: {error} A release without its line in "
                f"the audit trail is not allowed."
            ) from error


# The first class that an error is an instance of decides.
_REASONS: Mapping[type[WardroundError], RefusalReason] = {
    NotApproved: RefusalReason.NOT_APPROVED,
    BudgetSpent: RefusalReason.BUDGET_SPENT,
    NotPermitted: RefusalReason.POLICY,
    AuditFailed: RefusalReason.AUDIT_FAILED,
}


def release_refusal(
    trail: Trail, plan: StudyPlan, site_id: str, error: NotPermitted | AuditFailed
) -> bytes:
    """Return the bytes that tell the coordinator why a site works for no order, and nothing else.

    Args:
        trail: The site's; gets the line of this release.
        plan: The plan that is refused.
        site_id: The site.
        error: What stands against it; its class alone is told.

    Raises:
        TrailError: The line cannot be written, so nothing may leave.
    """
    reason = next(reason for kind, reason in _REASONS.items() if isinstance(error, kind))
    data = codec.encode(Refusal(site_id=site_id, plan_digest=plan.digest(), reason=reason))
    facts: Mapping[str, Fact] = {
        "study": plan.study_id,
        "plan": plan.digest(),
        "what": Refusal.__name__,
        "size_bytes": len(data),
        "digest": hashlib.sha256(data).hexdigest(),
    }
    trail.append(LineKind.RELEASED, facts)
    return data
