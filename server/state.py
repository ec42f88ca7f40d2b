"""A study's state is a fold over its events, and the state alone decides what is done next.

Everything here is pure: no clock, no disk, no network.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from wardround.server.events import (
    Event,
    SiteEvaluated,
    StudyCompleted,
    StudyCreated,
    VisitCommitted,
    VisitLeased,
)
from wardround.shared.checkpoint import Manifest
from wardround.shared.errors import JournalError
from wardround.shared.messages import CheckpointRef, EvaluationReport, VisitReport


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyState:
    """Where a study stands.

    Attributes:
        study_id: From the plan.
        sites: The site sequence; visit n is made by `sites[n - 1]`.
        plan: The plan's canonical JSON.
        plan_digest: Its SHA-256.
        manifest: The tensors a checkpoint may hold.
        checkpoints: Starting checkpoint, then the one of each committed visit: index = visit.
        visit_reports: The report of each committed visit, index = visit - 1.
        evaluations: (visit, site_id) -> report; visit 0 is the starting checkpoint.
        leased: The visit that a site was last asked to make, 0 before the first.
        is_complete: Nothing is left to do.
    """

    study_id: str
    sites: tuple[str, ...]
    plan: str
    plan_digest: str
    manifest: Manifest
    checkpoints: tuple[CheckpointRef, ...]
    visit_reports: tuple[VisitReport, ...] = ()
    evaluations: Mapping[tuple[int, str], EvaluationReport] = field(default_factory=dict)
    leased: int = 0
    is_complete: bool = False

    @property
    def num_visits(self) -> int:
        """Return how many visits are committed."""
        return len(self.visit_reports)

    @property
    def checkpoint(self) -> CheckpointRef:
        """Return the last committed checkpoint."""
        return self.checkpoints[-1]

    def results(self) -> tuple[tuple[float | None, ...], ...]:
        """Return the results matrix: Dice in [0, 1], None where it is not known yet.

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

    Returns:
        None when the study is complete.
    """
    if state.is_complete:
        return None
    done = state.num_visits
    for site_id in state.sites:
        if (done, site_id) not in state.evaluations:
            return EvaluateAt(visit=done, site_id=site_id, checkpoint=state.checkpoint)
    if done == len(state.sites):
        return Complete()
    return MakeVisit(
        visit=done + 1,
        site_id=state.sites[done],
        parent=state.checkpoint,
        visited=state.sites[:done],
    )


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
        case StudyCompleted():
            if not isinstance(next_action(state), Complete | None):
                raise _unexpected("the study's end", state)
            return replace(state, is_complete=True)
        case _:
            assert_never(event)


def same_commit(first: VisitReport, second: VisitReport) -> bool:
    """Return whether two reports tell of the same commit: all but the timings are equal."""
    return replace(first, phase_seconds={}) == replace(second, phase_seconds={})


def _created(state: StudyState | None, event: StudyCreated) -> StudyState:
    if state is not None:
        raise _unexpected("a second StudyCreated", state)
    plan = json.loads(event.plan)
    return StudyState(
        study_id=plan["study_id"],
        sites=tuple(plan["sites"]),
        plan=event.plan,
        plan_digest=event.plan_digest,
        manifest=event.manifest,
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


def _unexpected(what: str, state: StudyState) -> JournalError:
    return JournalError(
        f"study '{state.study_id}': {what} cannot follow after {state.num_visits} committed visits "
        f"and {len(state.evaluations)} evaluations. The journal or a site's message was changed."
    )
