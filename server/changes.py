"""What an operator may change in a study, and the event that comes of it; pure.

A change that is made already gives no event, so a command whose answer was lost can be repeated.
The plan stays as every site approved it: what changes is the order of its sites, and who of them
takes part. A site that the plan does not name may only be added where the plan has `late_sites`;
it must have approved the same plan, as every other.
"""

from wardround.server.events import (
    Changed,
    SiteAdded,
    SiteSkipped,
    SitesReordered,
    SiteWithdrawn,
    StudyPaused,
    StudyResumed,
    StudyStarted,
    StudyStopped,
)
from wardround.server.state import StudyState
from wardround.shared.errors import UsageError
from wardround.shared.message_rules import MAX_SITES
from wardround.shared.plan import StudyPlan
from wardround.shared.study_api import (
    WORDS,
    Add,
    Change,
    Pause,
    Reorder,
    Resume,
    Skip,
    Standing,
    Start,
    Stop,
    Withdraw,
)


def event_of(state: StudyState, plan: StudyPlan, change: Change, by: str) -> Changed | None:
    """Return the event that a change comes to; None where the study is so already.

    Args:
        state: Where the study stands.
        plan: Its plan.
        change: What is asked for.
        by: The operator who asks.

    Raises:
        UsageError: It cannot be done, and why.
    """
    match change:
        case Start():
            return _started(state, by)
        case Pause():
            return _paused(state, by)
        case Resume():
            return _resumed(state, by)
        case Stop():
            return _stopped(state, by)
        case Skip(site_id=site_id):
            return _skipped(state, site_id, by)
        case Withdraw():
            return _withdrawn(state, change, by)
        case Add(site_id=site_id):
            return _added(state, plan, site_id, by)
        case Reorder(to_come=to_come):
            return _reordered(state, to_come, by)


def _started(state: StudyState, by: str) -> StudyStarted | None:
    if state.standing is Standing.RUNNING:
        return None
    if state.standing is not Standing.ON_HOLD:
        raise _refused(state, Start(), "Go on after a pause with 'resume'")
    return StudyStarted(by=by)


def _paused(state: StudyState, by: str) -> StudyPaused | None:
    if state.standing is Standing.PAUSED:
        return None
    if state.standing is not Standing.RUNNING:
        raise _refused(state, Pause(), "Only a study that runs can be paused")
    return StudyPaused(by=by)


def _resumed(state: StudyState, by: str) -> StudyResumed | None:
    if state.standing is Standing.RUNNING:
        return None
    if state.standing is not Standing.PAUSED:
        raise _refused(state, Resume(), "Begin one that is on hold with 'start'")
    return StudyResumed(by=by)


def _stopped(state: StudyState, by: str) -> StudyStopped | None:
    if state.standing is Standing.STOPPED:
        return None
    _expect_running_on(state, Stop())
    return StudyStopped(by=by)


def _skipped(state: StudyState, site_id: str, by: str) -> SiteSkipped | None:
    if site_id in state.skipped:
        return None
    _expect_running_on(state, Skip(site_id))
    _expect_member(state, site_id)
    _expect_unvisited(state, site_id, "To ask it for nothing any more, use 'withdraw'")
    if site_id in state.withdrawn:
        raise UsageError(
            f"site '{site_id}' was withdrawn from study '{state.study_id}'. "
            f"Bring it back with 'add' first."
        )
    return SiteSkipped(site_id=site_id, by=by)


def _withdrawn(state: StudyState, change: Withdraw, by: str) -> SiteWithdrawn | None:
    site_id, remedy = change.site_id, change.remedy
    is_visit_made = site_id in state.visited
    before = state.withdrawals.get(site_id)
    if site_id in state.withdrawn and (
        not is_visit_made or remedy is None or (before is not None and before.remedy is remedy)
    ):
        return None
    if not is_visit_made:
        _expect_running_on(state, change)
    _expect_member(state, site_id)
    if is_visit_made and remedy is None:
        raise UsageError(
            f"site '{site_id}' was visited (visit {state.visited.index(site_id) + 1} of study "
            f"'{state.study_id}'), so checkpoints descend from it. Say what becomes of them: "
            f"--remedy continue goes on from the checkpoint before that visit, --remedy mark "
            f"keeps them, marked. Its prompt, labeller and decoder are dropped either way."
        )
    chosen = remedy.value if remedy is not None and is_visit_made else None
    return SiteWithdrawn(site_id=site_id, by=by, remedy=chosen)


def _added(state: StudyState, plan: StudyPlan, site_id: str, by: str) -> SiteAdded | None:
    if site_id in state.to_come:
        return None
    _expect_running_on(state, Add(site_id))
    _expect_unvisited(state, site_id, "A site is visited once")
    if site_id not in plan.sites and not plan.late_sites:
        raise UsageError(
            f"site '{site_id}' is not among the sites that the plan of study '{state.study_id}' "
            f"names ({', '.join(plan.sites)}), and the plan does not allow late ones. Its sites "
            f"approved no other: create a study whose plan has late_sites = true."
        )
    if site_id not in state.members and len(state.members) >= MAX_SITES:
        raise UsageError(f"study '{state.study_id}' has {MAX_SITES} sites. It cannot have more.")
    return SiteAdded(site_id=site_id, by=by)


def _reordered(state: StudyState, to_come: tuple[str, ...], by: str) -> SitesReordered | None:
    _expect_running_on(state, Reorder(to_come))
    movable = state.to_come[1:] if state.is_visiting else state.to_come
    if to_come == movable:
        return None
    if sorted(to_come) != sorted(movable):
        raise UsageError(
            f"the order '{', '.join(to_come)}' does not name each site of study "
            f"'{state.study_id}' whose visit is still to begin, once, and no other. "
            f"Name each of them once: {', '.join(movable)}."
        )
    return SitesReordered(to_come=to_come, by=by)


def _expect_running_on(state: StudyState, change: Change) -> None:
    if state.has_ended:
        raise _refused(state, change, "Nothing changes in a study that has ended")


def _expect_member(state: StudyState, site_id: str) -> None:
    if site_id not in state.members:
        raise UsageError(
            f"site '{site_id}' takes no part in study '{state.study_id}', whose sites are "
            f"{', '.join(state.members)}. Name one of them."
        )


def _expect_unvisited(state: StudyState, site_id: str, remedy: str) -> None:
    if site_id in state.visited:
        raise UsageError(
            f"site '{site_id}' was visited already (visit {state.visited.index(site_id) + 1} of "
            f"study '{state.study_id}'); what was learned there stays. {remedy}."
        )


def _refused(state: StudyState, change: Change, remedy: str) -> UsageError:
    return UsageError(
        f"cannot {WORDS[type(change)]} study '{state.study_id}': it is {state.standing.value}. "
        f"{remedy}."
    )
