"""An order: what one site is to do now, ready to be sent."""

from dataclasses import dataclass
from typing import Literal

from wardround.server.state import EvaluateAt, MakeVisit, StudyState
from wardround.shared import codec
from wardround.shared.messages import EvaluationOrder, VisitOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one site is to do now.

    Attributes:
        kind: Whether `data` is a `VisitOrder` or an `EvaluationOrder`.
        site_id: Who is to carry it out.
        visit: Number of the visit to make, or whose checkpoint is to be scored.
        data: The encoded order.
    """

    kind: Literal["visit", "evaluation"]
    site_id: str
    visit: int
    data: bytes


def order_of(state: StudyState, action: MakeVisit | EvaluateAt) -> Order:
    """Return the order that asks for `action`; the same one each time."""
    match action:
        case MakeVisit():
            visit = VisitOrder(
                study_id=state.study_id,
                plan_digest=state.plan_digest,
                visit=action.visit,
                site_id=action.site_id,
                parent=action.parent,
                visited=action.visited,
                withdrawn=tuple(sorted(state.withdrawals)),
            )
            return Order(
                kind="visit", site_id=action.site_id, visit=action.visit, data=codec.encode(visit)
            )
        case EvaluateAt():
            evaluation = EvaluationOrder(
                study_id=state.study_id,
                plan_digest=state.plan_digest,
                visit=action.visit,
                site_id=action.site_id,
                checkpoint=action.checkpoint,
                withdrawn=tuple(sorted(state.withdrawals)),
            )
            return Order(
                kind="evaluation",
                site_id=action.site_id,
                visit=action.visit,
                data=codec.encode(evaluation),
            )
