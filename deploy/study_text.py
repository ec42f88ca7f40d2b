"""Where a study stands, and what happens in it, as text and as plain values."""

from dataclasses import asdict
from enum import Enum
from typing import Any

from rich.table import Table

from wardround.deploy.number_text import number
from wardround.deploy.progress import phase_text
from wardround.shared.messages import RefusalReason
from wardround.shared.study_api import (
    EventKind,
    Remedy,
    SiteStanding,
    SiteStatus,
    Standing,
    StudyEvent,
    StudyStatus,
    Withdrawal,
)

_HAPPENED = {
    EventKind.STUDY_CREATED: "the study was created",
    EventKind.STUDY_STARTED: "the study was started",
    EventKind.STUDY_PAUSED: "the study was paused",
    EventKind.STUDY_RESUMED: "the study was resumed",
    EventKind.STUDY_STOPPED: "the study was stopped",
    EventKind.STUDY_COMPLETED: "the study is complete",
    EventKind.VISIT_LEASED: "visit {visit} began at {site}",
    EventKind.VISIT_COMMITTED: "visit {visit} at {site} is done, Dice {dice}",
    EventKind.SITE_EVALUATED: "{site} scored the checkpoint of visit {visit}, Dice {dice}",
    EventKind.EVALUATION_MISSED: "{site} was not there to score the checkpoint of visit {visit}",
    EventKind.SITE_SKIPPED: "{site} was skipped",
    EventKind.SITE_WITHDRAWN: "{site} was withdrawn",
    EventKind.SITE_ADDED: "{site} was added",
    EventKind.SITES_REORDERED: "the visits still to come are {to_come}",
    EventKind.SITE_REFUSED: "{site} refuses",
    EventKind.SITE_RETURNED: "{site} takes part again",
}
_REFUSES = {
    RefusalReason.NOT_APPROVED: "its staff do not approve the plan",
    RefusalReason.BUDGET_SPENT: "its privacy budget is spent",
    RefusalReason.POLICY: "its own policy stands against it",
    RefusalReason.AUDIT_FAILED: "its memorisation audit lets nothing leave",
}
_BY_ABSENCE = (EventKind.SITE_SKIPPED, EventKind.STUDY_STOPPED)


def event_text(event: StudyEvent) -> str:
    """Return one event as a phrase."""
    text = _HAPPENED[event.kind].format(
        visit=event.visit,
        site=event.site_id,
        dice=number(event.dice),
        to_come=", ".join(event.to_come),
    )
    if event.refusal is not None:
        return f"{text}: {_REFUSES[event.refusal]}"
    if event.by is not None:
        return f"{text} (operator {event.by})"
    return f"{text} (absent; as the plan says)" if event.kind in _BY_ABSENCE else text


def waiting_text(status: StudyStatus) -> str:
    """Return what the study waits for as a sentence without its full stop."""
    match status.standing:
        case Standing.STOPPED | Standing.COMPLETE:
            return f"the study is {status.standing.value}"
        case Standing.ON_HOLD:
            return "waiting to be started"
    due = status.due
    is_under_way = any(site.standing is SiteStanding.VISITING for site in status.sites)
    if status.standing is Standing.PAUSED and not is_under_way:
        return "paused; waiting to be resumed"
    if due is None:
        return "nothing is left to do"
    what = (
        f"make visit {due.visit}" if due.is_visit else f"score the checkpoint of visit {due.visit}"
    )
    text = f"waiting for {due.site_id} to {what}"
    refusal = next((site.refusal for site in status.sites if site.site_id == due.site_id), None)
    if refusal is not None:
        return f"{text}; it refuses, for {_REFUSES[refusal]}"
    if due.absent_s:
        return f"{text}; it is absent"
    progress = status.progress
    if progress is not None:
        steps = f", step {progress.step} of {progress.total}" if progress.total > 1 else ""
        text = f"{text}: {phase_text(progress.phase)}{steps}"
    return f"{text}; then paused" if status.standing is Standing.PAUSED else text


def silence_text(status: StudyStatus) -> str:
    """Return for how long the site that is waited for has been silent; "" where it is there."""
    if status.due is None or not status.due.absent_s:
        return ""
    return f"{status.due.site_id} was not heard from for {_span(status.due.absent_s)}"


def withdrawal_text(one: Withdrawal) -> str:
    """Return what a withdrawal dropped, and what descends from the site's visit, line by line."""
    fate = "dropped" if one.remedy is Remedy.CONTINUE else "kept and marked"
    return "\n".join(
        [
            f"{one.site_id} was withdrawn by {one.by}, remedy {one.remedy.value}",
            *(f"  dropped {p.name}: {p.size_bytes} bytes, {p.digest:.12}" for p in one.dropped),
            *(
                f"  {fate}: checkpoint {each.digest:.12} of visit {each.visit} at {each.site_id}"
                for each in one.descendants
            ),
        ]
    )


def title(status: StudyStatus) -> str:
    """Return the line that stands above the table."""
    made = sum(site.visit > 0 for site in status.sites) - sum(
        site.standing is SiteStanding.VISITING for site in status.sites
    )
    left = sum(site.standing in _AHEAD for site in status.sites)
    return f"{status.study_id}: {status.standing.value}, {made} of {made + left} visits made"


_AHEAD = (SiteStanding.TO_COME, SiteStanding.VISITING)


def status_table(status: StudyStatus) -> Table:
    """Return one row per site, in the order of the sequence."""
    table = Table()
    for heading in ("visit", "site", "standing", "Dice", "heard from"):
        table.add_column(heading, justify="right" if heading in ("visit", "Dice") else "left")
    for site in status.sites:
        table.add_row(
            str(site.visit or ""),
            site.site_id,
            _standing_text(site),
            number(site.dice),
            "yes" if site.is_present else "no",
        )
    return table


def plain(value: Any) -> Any:
    """Return a status, an event or news as values that JSON can hold."""
    match value:
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case Enum():
            return value.value
    return plain(asdict(value)) if hasattr(value, "__dataclass_fields__") else value


def _standing_text(site: SiteStatus) -> str:
    if site.standing is SiteStanding.SKIPPED and site.by is None:
        why = "was absent" if site.refusal is None else f"refuses: {_REFUSES[site.refusal]}"
        return f"skipped ({why})"
    by = f" (by {site.by})" if site.by else ""
    why = "" if site.refusal is None else f"; refuses: {_REFUSES[site.refusal]}"
    return f"{site.standing.value}{by}{why}"


def _span(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
