"""What an operator is shown of a study: where it stands, and its events in short."""

from collections.abc import Sequence

from wardround.server.events import (
    EvaluationMissed,
    Event,
    SiteAdded,
    SiteEvaluated,
    SiteRefused,
    SiteReturned,
    SiteSkipped,
    SitesReordered,
    SiteWithdrawn,
    StudyPaused,
    StudyResumed,
    StudyStarted,
    StudyStopped,
    VisitCommitted,
    VisitLeased,
)
from wardround.server.presence import Presence
from wardround.server.state import EvaluateAt, MakeVisit, StudyState, next_action
from wardround.shared.messages import Metric, Progress, RefusalReason
from wardround.shared.study_api import (
    Due,
    EventKind,
    SiteStanding,
    SiteStatus,
    StudyEvent,
    StudyStatus,
)


def status_of(
    state: StudyState,
    presence: Presence,
    progress: Progress | None,
    num_events: int,
) -> StudyStatus:
    """Return where a study stands.

    Args:
        state: Its state.
        presence: Who is heard from.
        progress: What a site last said; shown while it is about what is due.
        num_events: How many events its journal holds.
    """
    action = next_action(state)
    due = None
    if isinstance(action, MakeVisit | EvaluateAt):
        due = Due(
            site_id=action.site_id,
            visit=action.visit,
            is_visit=isinstance(action, MakeVisit),
            absent_s=int(presence.absent_s(action.site_id)),
        )
    is_about_due = (
        progress is not None
        and due is not None
        and ((progress.site_id, progress.visit) == (due.site_id, due.visit))
    )
    return StudyStatus(
        study_id=state.study_id,
        plan_digest=state.plan_digest,
        standing=state.standing,
        sites=tuple(_site(state, presence, site_id) for site_id in state.sites),
        due=due,
        progress=progress if is_about_due else None,
        checkpoint_digest=state.checkpoint.digest,
        num_events=num_events,
        withdrawals=tuple(state.withdrawals.values()),
    )


def _site(state: StudyState, presence: Presence, site_id: str) -> SiteStatus:
    visit, dice = 0, None
    if site_id in state.visited:
        visit = state.visited.index(site_id) + 1
        dice = _dice(state.visit_reports[visit - 1].metrics.get(Metric.DICE_AFTER))
        standing = SiteStanding.VISITED
    elif state.is_visiting and state.to_come[0] == site_id:
        visit, standing = state.leased, SiteStanding.VISITING
    else:
        standing = SiteStanding.TO_COME
    if site_id in state.skipped:
        standing = SiteStanding.SKIPPED
    if site_id in state.withdrawn:
        standing = SiteStanding.WITHDRAWN
    return SiteStatus(
        site_id=site_id,
        standing=standing,
        visit=visit,
        dice=dice,
        is_present=presence.is_present(site_id),
        by=state.skipped.get(site_id) or state.withdrawn.get(site_id),
        refusal=state.refused.get(site_id),
    )


def events_of(happened: Sequence[Event], *, after: int) -> tuple[StudyEvent, ...]:
    """Return the events whose number, from 1, is above `after`, in short."""
    return tuple(
        _event(number, event) for number, event in enumerate(happened[after:], start=after + 1)
    )


def _event(number: int, event: Event) -> StudyEvent:
    kind = EventKind(type(event).__name__)
    match event:
        case VisitCommitted(report=visit_report):
            return StudyEvent(
                number=number,
                kind=kind,
                visit=visit_report.visit,
                site_id=visit_report.site_id,
                dice=_dice(visit_report.metrics.get(Metric.DICE_AFTER)),
            )
        case SiteEvaluated(report=evaluation):
            return StudyEvent(
                number=number,
                kind=kind,
                visit=evaluation.visit,
                site_id=evaluation.site_id,
                dice=_dice(evaluation.dice),
            )
        case VisitLeased() | EvaluationMissed():
            return StudyEvent(number=number, kind=kind, visit=event.visit, site_id=event.site_id)
        case SiteRefused(site_id=site_id, reason=reason):
            refusal = RefusalReason(reason)
            return StudyEvent(number=number, kind=kind, site_id=site_id, refusal=refusal)
        case SiteReturned():
            return StudyEvent(number=number, kind=kind, site_id=event.site_id)
        case SiteSkipped() | SiteWithdrawn() | SiteAdded():
            return StudyEvent(number=number, kind=kind, site_id=event.site_id, by=event.by)
        case SitesReordered():
            return StudyEvent(number=number, kind=kind, to_come=event.to_come, by=event.by)
        case StudyStarted() | StudyPaused() | StudyResumed() | StudyStopped():
            return StudyEvent(number=number, kind=kind, by=event.by)
        case _:
            return StudyEvent(number=number, kind=kind)


def _dice(value: float | None) -> float | None:
    # A mean of ones may come out as 1 + 2e-16.
    return None if value is None else min(max(value, 0.0), 1.0)
