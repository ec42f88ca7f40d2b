"""Follow a study from afar: what the coordinator tells goes to a watcher, as in a simulation."""

from collections.abc import Iterable

from wardround.deploy.progress import Watcher
from wardround.deploy.study_text import event_text, waiting_text
from wardround.shared.messages import Progress
from wardround.shared.study_api import EventKind, News, Standing, StudyStatus

# What the bars and the table of results tell anyway.
_UNTOLD = (
    EventKind.STUDY_CREATED,
    EventKind.VISIT_LEASED,
    EventKind.VISIT_COMMITTED,
    EventKind.SITE_EVALUATED,
    EventKind.STUDY_COMPLETED,
)


def follow(news: Iterable[News], watcher: Watcher) -> StudyStatus | None:
    """Tell the watcher everything that is new, and return where the study stood last."""
    shown: Progress | None = None
    status, told = None, ""
    for one in news:
        status = one.status
        for event in one.events:
            if event.kind is EventKind.VISIT_COMMITTED and event.visit and event.site_id:
                watcher.visit_done(event.visit, event.site_id, event.dice)
            elif event.kind not in _UNTOLD:
                watcher.note(event_text(event))
        is_held_up = status.standing is not Standing.RUNNING or (status.due and status.due.absent_s)
        waiting = waiting_text(status) if is_held_up else ""
        if waiting and waiting != told:
            watcher.waiting(waiting)
        elif not waiting and status.progress is not None and status.progress != shown:
            watcher.progress(status.progress)
        shown, told = status.progress, waiting
    return status
