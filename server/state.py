"""A study's state is a fold over its events, and the state alone decides what is done next.

Everything here is pure: no clock, no disk, no network.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from wardround.server import willingness, withdrawal
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
    StudyCompleted,
    StudyCreated,
    StudyPaused,
    StudyResumed,
    StudyStarted,
    StudyStopped,
    VisitCommitted,
    VisitLeased,
)
from wardround.shared.checkpoint import Manifest
from wardround.shared.errors import JournalError
from wardround.shared.messages import CheckpointRef, EvaluationReport, RefusalReason, VisitReport
from wardround.shared.study_api import Remedy, Standing, Withdrawal


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyState:
    """Where a study stands.

    The plan, which every site approved, says in which order the visits begin; the order itself is
    state, for it changes while the study runs.

    Attributes:
        study_id: From the plan.
        plan: The plan's canonical JSON.
        plan_digest: Its SHA-256.
        manifest: The tensors a checkpoint may hold.
        engine: How messages move.
        standing: Whether the study goes on.
        members: Every site that takes or took part, in the order in which they joined.
        to_come: The sites whose visit is still to be made, in order.
        skipped: Site that makes no visit -> the operator, or None for the plan's absence policy.
        withdrawn: Site that is asked for nothing any more -> the operator.
        withdrawals: Site -> what was done about its visit, which was made.
        marked: Withdrawn sites whose visit is in the past of the last checkpoint.
        checkpoints: Starting checkpoint, then the one of each committed visit: index = visit.
        visit_reports: The report of each committed visit, index = visit - 1.
        evaluations: (visit, site_id) -> report; visit 0 is the starting checkpoint.
        missed: (visit, site_id) of evaluations that were not waited for.
        leased: The visit that a site was last asked to make, 0 before the first.
        refused: Site that carries out no order -> why.
    """

    study_id: str
    plan: str
    plan_digest: str
    manifest: Manifest
    engine: str
    standing: Standing
    members: tuple[str, ...]
    to_come: tuple[str, ...]
    skipped: Mapping[str, str | None] = field(default_factory=dict)
    withdrawn: Mapping[str, str] = field(default_factory=dict)
    withdrawals: Mapping[str, Withdrawal] = field(default_factory=dict)
    marked: frozenset[str] = frozenset()
    checkpoints: tuple[CheckpointRef, ...]
    visit_reports: tuple[VisitReport, ...] = ()
    evaluations: Mapping[tuple[int, str], EvaluationReport] = field(default_factory=dict)
    missed: frozenset[tuple[int, str]] = frozenset()
    leased: int = 0
    refused: Mapping[str, RefusalReason] = field(default_factory=dict)

    @property
    def num_visits(self) -> int:
        """Return how many visits are committed."""
        return len(self.visit_reports)

    @property
    def num_rows(self) -> int:
        """Return how many rows of the results matrix are settled: filled, or not waited for."""
        is_open = not self.is_visiting and _unscored(self) is not None
        return self.num_visits + (0 if is_open else 1)

    @property
    def is_visiting(self) -> bool:
        """Return whether a site was asked to make the next visit."""
        return self.leased > self.num_visits

    @property
    def is_complete(self) -> bool:
        """Return whether everything was done."""
        return self.standing is Standing.COMPLETE

    @property
    def has_ended(self) -> bool:
        """Return whether nothing is left to do, or to be done."""
        return self.standing in (Standing.COMPLETE, Standing.STOPPED)

    @property
    def visited(self) -> tuple[str, ...]:
        """Return the sites whose visit is committed, in order."""
        return tuple(report.site_id for report in self.visit_reports)

    @property
    def lineage(self) -> tuple[str, ...]:
        """Return the sites visited whose parts the last checkpoint holds: what seeds follow."""
        return tuple(site for site in self.visited if site not in self.marked)

    @property
    def sites(self) -> tuple[str, ...]:
        """Return every member in the order of the sequence; who makes no visit comes last."""
        sequence = (*self.visited, *self.to_come)
        return (*sequence, *(site for site in self.members if site not in sequence))

    @property
    def checkpoint(self) -> CheckpointRef:
        """Return the last committed checkpoint."""
        return self.checkpoints[-1]

    def results(self) -> tuple[tuple[float | None, ...], ...]:
        """Return the results matrix: Dice in [0, 1], None where it is not known.

        Rows are visits 0 (starting checkpoint) to the last committed one, columns are `sites`.
        """
        return tuple(
            tuple(
                self.evaluations[visit, site_id].dice
                if (visit, site_id) in self.evaluations
                else None
                for site_id in self.sites
            )
            for visit in range(len(self.checkpoints))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeVisit:
    """Ask `site_id` for visit `visit`, starting from `parent`, which has seen `visited`."""

    visit: int
    site_id: str
    parent: CheckpointRef
    visited: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateAt:
    """Ask `site_id` to score `checkpoint`, which visit `visit` made (0: the starting one)."""

    visit: int
    site_id: str
    checkpoint: CheckpointRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """Declare the study complete."""


def next_action(state: StudyState) -> MakeVisit | EvaluateAt | Complete | None:
    """Return what to do now: first fill the last checkpoint's row, then make the next visit.

    A pause changes nothing of it: see `may_begin`.

    Returns:
        None when the study has ended.
    """
    if state.has_ended:
        return None
    done = state.num_visits
    if not state.is_visiting:
        site_id = _unscored(state)
        if site_id is not None:
            return EvaluateAt(visit=done, site_id=site_id, checkpoint=state.checkpoint)
    if not state.to_come:
        return Complete()
    return MakeVisit(
        visit=done + 1,
        site_id=state.to_come[0],
        parent=state.checkpoint,
        visited=state.lineage,
    )


def may_begin(state: StudyState) -> bool:
    """Return whether what is to be done next may be asked for; a visit under way always may."""
    return state.standing is Standing.RUNNING or (
        state.standing is Standing.PAUSED and state.is_visiting
    )


def _unscored(state: StudyState) -> str | None:
    """Return the first site that the last checkpoint waits for to be scored."""
    for site_id in state.members:
        cell = (state.num_visits, site_id)
        if not (cell in state.evaluations or cell in state.missed or site_id in state.withdrawn):
            return site_id
    return None


def fold(events: Iterable[Event]) -> StudyState | None:
    """Return the state after `events`; None when there are none.

    Raises:
        JournalError: The events contradict each other.
    """
    state: StudyState | None = None
    for event in events:
        state = apply(state, event)
    return state


def apply(state: StudyState | None, event: Event) -> StudyState:
    """Return the state after `event`.

    A commit or an evaluation that repeats an earlier one changes nothing; timings may differ.

    Raises:
        JournalError: The event cannot follow on `state`.
    """
    if isinstance(event, StudyCreated):
        return _created(state, event)
    if state is None:
        raise JournalError(
            f"a study begins with StudyCreated, its journal with {type(event).__name__}. "
            f"The journal is not whole; restore it."
        )
    match event:
        case VisitLeased():
            return _leased(state, event)
        case VisitCommitted():
            return _committed(state, event)
        case SiteEvaluated():
            return _evaluated(state, event)
        case EvaluationMissed():
            return _missed(state, event)
        case SiteSkipped() | SiteWithdrawn() | SiteAdded():
            return _membership(state, event)
        case SitesReordered():
            return _reordered(state, event)
        case SiteRefused() | SiteReturned():
            return willingness.after(state, event)
        case _:
            return _standing(state, event)


def same_commit(first: VisitReport, second: VisitReport) -> bool:
    """Return whether two reports tell of the same commit: all but timings and trail are equal."""
    return replace(first, phase_seconds={}, trail=None) == replace(
        second, phase_seconds={}, trail=None
    )


def _created(state: StudyState | None, event: StudyCreated) -> StudyState:
    if state is not None:
        raise _unexpected("a second StudyCreated", state)
    plan = json.loads(event.plan)
    return StudyState(
        study_id=plan["study_id"],
        plan=event.plan,
        plan_digest=event.plan_digest,
        manifest=event.manifest,
        engine=event.engine,
        standing=Standing.ON_HOLD if event.is_on_hold else Standing.RUNNING,
        members=tuple(plan["sites"]),
        to_come=tuple(plan["sites"]),
        checkpoints=(event.genesis,),
    )


def _leased(state: StudyState, event: VisitLeased) -> StudyState:
    match next_action(state):
        case MakeVisit(visit=visit, site_id=site_id, parent=parent):
            if (visit, site_id, parent.digest) == (event.visit, event.site_id, event.parent):
                return replace(state, leased=visit)
    raise _unexpected(f"the lease of visit {event.visit} to '{event.site_id}'", state)


def _committed(state: StudyState, event: VisitCommitted) -> StudyState:
    report = event.report
    if 1 <= report.visit <= state.num_visits:
        if event.checkpoint == state.checkpoints[report.visit] and same_commit(
            report, state.visit_reports[report.visit - 1]
        ):
            return state
        raise _unexpected(f"a second, different commit of visit {report.visit}", state)
    match next_action(state):
        case MakeVisit(visit=visit, site_id=site_id) if state.leased == visit:
            if (visit, site_id) == (report.visit, report.site_id):
                return replace(
                    state,
                    to_come=state.to_come[1:],
                    checkpoints=(*state.checkpoints, event.checkpoint),
                    visit_reports=(*state.visit_reports, report),
                )
    raise _unexpected(f"the commit of visit {report.visit} by '{report.site_id}'", state)


def _evaluated(state: StudyState, event: SiteEvaluated) -> StudyState:
    report = event.report
    cell = (report.visit, report.site_id)
    if cell in state.evaluations:
        if state.evaluations[cell] == report:
            return state
        raise _unexpected(f"a second, different evaluation {cell}", state)
    match next_action(state):
        case EvaluateAt(visit=visit, site_id=site_id, checkpoint=checkpoint):
            if (*cell, report.checkpoint_digest) == (visit, site_id, checkpoint.digest):
                return replace(state, evaluations={**state.evaluations, cell: report})
    raise _unexpected(f"an evaluation of visit {report.visit} by '{report.site_id}'", state)


def _missed(state: StudyState, event: EvaluationMissed) -> StudyState:
    match next_action(state):
        case EvaluateAt(visit=visit, site_id=site_id):
            if (visit, site_id) == (event.visit, event.site_id):
                return replace(state, missed=state.missed | {(visit, site_id)})
    raise _unexpected(f"a missed evaluation of visit {event.visit} by '{event.site_id}'", state)


def _membership(state: StudyState, event: SiteSkipped | SiteWithdrawn | SiteAdded) -> StudyState:
    site_id = event.site_id
    is_visit_made, is_member = site_id in state.visited, site_id in state.members
    if isinstance(event, SiteWithdrawn) and event.remedy is not None and is_visit_made:
        return withdrawal.withdrawn(state, site_id, Remedy(event.remedy), event.by)
    if state.has_ended or not (is_member or isinstance(event, SiteAdded)):
        raise _unexpected(f"{type(event).__name__} of '{site_id}'", state)
    # The visit of a site that is left out meanwhile is under way no more.
    is_visiting = state.is_visiting and state.to_come[0] == site_id
    state = replace(
        state,
        members=state.members if is_member else (*state.members, site_id),
        to_come=tuple(other for other in state.to_come if other != site_id),
        skipped={other: by for other, by in state.skipped.items() if other != site_id},
        withdrawn={other: by for other, by in state.withdrawn.items() if other != site_id},
        withdrawals={other: one for other, one in state.withdrawals.items() if other != site_id},
        leased=state.num_visits if is_visiting else state.leased,
    )
    match event:
        case SiteWithdrawn():
            return replace(state, withdrawn={**state.withdrawn, site_id: event.by})
        case SiteSkipped() if not is_visit_made:
            return replace(state, skipped={**state.skipped, site_id: event.by})
        case SiteAdded() if not is_visit_made:
            return replace(state, to_come=(*state.to_come, site_id))
    raise _unexpected(f"{type(event).__name__} of '{site_id}', whose visit is made,", state)


def _reordered(state: StudyState, event: SitesReordered) -> StudyState:
    under_way = state.to_come[:1] if state.is_visiting else ()
    to_come = (*under_way, *event.to_come)
    if state.has_ended or sorted(to_come) != sorted(state.to_come):
        raise _unexpected(f"the order {', '.join(event.to_come)}", state)
    return replace(state, to_come=to_come)


_MOVES = {
    StudyStarted: (Standing.ON_HOLD, Standing.RUNNING),
    StudyPaused: (Standing.RUNNING, Standing.PAUSED),
    StudyResumed: (Standing.PAUSED, Standing.RUNNING),
}


def _standing(
    state: StudyState,
    event: StudyStarted | StudyPaused | StudyResumed | StudyStopped | StudyCompleted,
) -> StudyState:
    match event:
        case StudyCompleted():
            if isinstance(next_action(state), Complete) or state.standing is Standing.COMPLETE:
                return replace(state, standing=Standing.COMPLETE)
        case StudyStopped():
            if not state.has_ended:
                return replace(state, standing=Standing.STOPPED)
        case _:
            before, after = _MOVES[type(event)]
            if state.standing is before:
                return replace(state, standing=after)
    raise _unexpected(f"{type(event).__name__} of a study that is {state.standing.value}", state)


def _unexpected(what: str, state: StudyState) -> JournalError:
    return JournalError(
        f"study '{state.study_id}': {what} cannot follow after {state.num_visits} committed visits "
        f"and {len(state.evaluations)} evaluations. The journal or a site's message was changed."
    )
