"""What the coordinator accepts from a site, message by message; pure.

A message counts only from the site whose turn it is, for the visit that is due and about the
checkpoint that was ordered. A repeated message counts if it equals the first.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from wardround.server.state import EvaluateAt, MakeVisit, StudyState, same_commit
from wardround.server.withdrawal import without
from wardround.shared import checkpoint
from wardround.shared.checkpoint import ENCODER, Form
from wardround.shared.errors import CheckpointError, StaleLease, WireError
from wardround.shared.formal_dp import guarantee_of
from wardround.shared.messages import (
    CheckpointUpload,
    EvaluationReport,
    Guarantee,
    VisitReport,
)
from wardround.shared.plan import StudyPlan


def expect_due(
    action: MakeVisit | EvaluateAt, sender: str, site_id: str, visit: int, *, kind: str
) -> None:
    """Check that a message comes from, and is about, the site and visit that are due.

    Args:
        action: What is due.
        sender: The site whose link brought the message.
        site_id: The site the message names.
        visit: The visit the message names.
        kind: The message's name, for the error.

    Raises:
        StaleLease: It is the sender's own, and not due: left out, or no longer waited for.
        WireError: It is about someone else's turn.
    """
    if not (sender == site_id == action.site_id and visit == action.visit):
        kind_of_error = StaleLease if sender == site_id else WireError
        raise kind_of_error(
            f"site '{sender}' sent a {kind} of site '{site_id}', visit {visit}; due is site "
            f"'{action.site_id}', visit {action.visit}. Carry out the current order."
        )


def expect_suppressed(plan: StudyPlan, site_id: str, count: int | None) -> None:
    """Check that a case count below the plan's smallest does not arrive.

    Raises:
        WireError: It did.
    """
    if count is not None and count < plan.release.min_count:
        raise WireError(
            f"site '{site_id}' reported a count below release.min_count = "
            f"{plan.release.min_count}. Its egress guard must suppress it."
        )


def expect_guarantee(plan: StudyPlan, action: MakeVisit, report: VisitReport) -> None:
    """Check that a visit's prompt has the differential privacy that the plan asks for.

    Raises:
        WireError: The report tells of none, of one not asked for, or of another.
    """
    planned, told = guarantee_of(plan, action.visited), report.guarantee
    if planned is None and told is None:
        return
    if (
        planned is None
        or told is None
        or told.delta != planned.delta
        or (
            # Two machines may differ in the last digits of what they compute.
            not math.isclose(told.epsilon, planned.epsilon, rel_tol=1e-4)
        )
    ):
        raise WireError(
            f"site '{action.site_id}', visit {action.visit}: the report tells of differential "
            f"privacy {_shown(told)}, the plan asks for {_shown(planned)}. Both sides must run the "
            f"same release and the same plan."
        )


def expected_parts(
    state: StudyState, plan: StudyPlan, action: MakeVisit, upload: CheckpointUpload
) -> Mapping[str, tuple[Form, ...]]:
    """Check an announced checkpoint against manifest, parent and byte budget.

    Returns:
        The forms that each of its parts may have.

    Raises:
        CheckpointError: Other parts than the manifest's, a part of another site changed, or more
            bytes than the plan allows.
    """
    expected = state.manifest.expected((*action.visited, action.site_id))
    checkpoint.verify_parts(upload.checkpoint, expected)
    parent = {part.name: part for part in action.parent.parts}
    changed = [part for part in upload.checkpoint.parts if part != parent.get(part.name)]
    for part in changed:
        if part.name == ENCODER and action.visited:
            raise CheckpointError(
                f"site '{action.site_id}', visit {action.visit}: changed the encoder, which is "
                f"trained at the first site alone. Both sides must run the same release."
            )
        _, _, of_site = part.name.partition(".")
        if of_site not in ("", action.site_id):
            raise CheckpointError(
                f"site '{action.site_id}', visit {action.visit}: changed '{part.name}', a part "
                f"of another site. A visit makes the parts of its own site alone."
            )
    size = sum(part.size_bytes for part in changed)
    if size > plan.release.byte_budget:
        raise CheckpointError(
            f"site '{action.site_id}', visit {action.visit}: announced {size} bytes, allowed are "
            f"{plan.release.byte_budget}. Raise release.byte_budget in the plan."
        )
    return expected


def is_committed(state: StudyState, sender: str, upload: CheckpointUpload) -> bool:
    """Return whether `upload` repeats the checkpoint of a committed visit of the sender.

    Raises:
        WireError: The visit is committed, with another checkpoint.
    """
    if upload.site_id != sender or upload.visit > state.num_visits:
        return False
    if state.visit_reports[upload.visit - 1].site_id != sender:
        return False
    if without(upload.checkpoint, state.marked) != state.checkpoints[upload.visit]:
        raise _contradiction(sender, f"checkpoint of visit {upload.visit}")
    return True


def verify_repeated(state: StudyState, sender: str, report: VisitReport, visit: int) -> None:
    """Check that a report repeats the one that `visit` was committed with, but for timings.

    Raises:
        WireError: It does not.
    """
    if not same_commit(report, state.visit_reports[visit - 1]):
        raise _contradiction(sender, f"commit of visit {visit}")


def is_evaluated(state: StudyState, sender: str, report: EvaluationReport) -> bool:
    """Return whether `report` repeats an earlier evaluation by the sender.

    Raises:
        WireError: The cell is filled, with another report.
    """
    before = state.evaluations.get((report.visit, report.site_id))
    if before is None or report.site_id != sender:
        return False
    if replace(before, trail=None) != replace(report, trail=None):
        raise _contradiction(sender, f"evaluation of visit {report.visit}")
    return True


def verify_evaluation(
    state: StudyState, plan: StudyPlan, action: MakeVisit | EvaluateAt, report: EvaluationReport
) -> None:
    """Check that a report scores the ordered checkpoint, the plan's classes and the same cases.

    Raises:
        WireError: Naming what differs.
    """
    if not isinstance(action, EvaluateAt) or report.checkpoint_digest != action.checkpoint.digest:
        raise WireError(
            f"site '{report.site_id}' scored checkpoint {report.checkpoint_digest}, which it was "
            f"not asked to score. Carry out the current order."
        )
    names = tuple(score.class_name for score in report.classes)
    expected = plan.task.classes_of(report.site_id)
    if names != expected:
        raise WireError(
            f"site '{report.site_id}' scored the classes {list(names)}, the plan has "
            f"{list(expected)}. Both sides must run the same plan."
        )
    if (report.folds is not None) != (plan.task.kind == "registration"):
        raise WireError(
            f"site '{report.site_id}' {'says' if report.folds is not None else 'does not say'} how "
            f"much is folded, the plan's task.kind is '{plan.task.kind}'. Both sides must run the "
            f"same plan."
        )
    if report.tre_mm is not None and plan.task.kind != "registration":
        raise WireError(
            f"site '{report.site_id}' tells a registration error, the plan's task.kind is "
            f"'{plan.task.kind}'. Both sides must run the same plan."
        )
    expect_suppressed(plan, report.site_id, report.num_cases)
    for score in report.classes:
        if score.num_undefined is not None:
            defined = (report.num_cases or 0) - score.num_undefined
            for count in (score.num_undefined, defined):
                expect_suppressed(plan, report.site_id, count or None)
    for earlier in state.evaluations.values():
        if earlier.site_id == report.site_id and earlier.data_digest != report.data_digest:
            raise WireError(
                f"the held-out cases of site '{report.site_id}' are not those it scored after "
                f"visit {earlier.visit}. Put the site's data back as it was; scores on other cases "
                f"cannot be compared."
            )


def _shown(guarantee: Guarantee | None) -> str:
    if guarantee is None:
        return "(none)"
    return f"(epsilon {guarantee.epsilon:.6g} and delta {guarantee.delta:g})"


def _contradiction(site_id: str, what: str) -> WireError:
    return WireError(
        f"site '{site_id}' sent a second {what} that differs from the first. "
        f"A result is never replaced; the first one holds."
    )
