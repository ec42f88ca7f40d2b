"""Turn what crosses the study API into messages of the wire contract and back.

As in `wardround.shared.codec`, decoding trusts nothing: an unknown enumeration, a change that is
not one of ours or a name of another spelling is a `WireError`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import TypeVar, assert_never

from wardround.shared import codec
from wardround.shared import message_rules as rules
from wardround.shared.errors import WireError
from wardround.shared.messages import PartRef, RefusalReason
from wardround.shared.study_api import (
    Add,
    Change,
    Descendant,
    Due,
    EventKind,
    News,
    Pause,
    Remedy,
    Reorder,
    Resume,
    SiteStanding,
    SiteStatus,
    Skip,
    Standing,
    Start,
    Stop,
    StudyEvent,
    StudyStatus,
    Withdraw,
    Withdrawal,
)
from wardround.wire.v1 import checkpoint_pb2
from wardround.wire.v1 import study_pb2 as wire

_K = TypeVar("_K")

_STANDINGS: Mapping[Standing, wire.Standing.ValueType] = {
    Standing.ON_HOLD: wire.STANDING_ON_HOLD,
    Standing.RUNNING: wire.STANDING_RUNNING,
    Standing.PAUSED: wire.STANDING_PAUSED,
    Standing.STOPPED: wire.STANDING_STOPPED,
    Standing.COMPLETE: wire.STANDING_COMPLETE,
}
_SITE_STANDINGS: Mapping[SiteStanding, wire.SiteStanding.ValueType] = {
    SiteStanding.TO_COME: wire.SITE_STANDING_TO_COME,
    SiteStanding.VISITING: wire.SITE_STANDING_VISITING,
    SiteStanding.VISITED: wire.SITE_STANDING_VISITED,
    SiteStanding.SKIPPED: wire.SITE_STANDING_SKIPPED,
    SiteStanding.WITHDRAWN: wire.SITE_STANDING_WITHDRAWN,
}
_KINDS: Mapping[EventKind, wire.EventKind.ValueType] = {
    EventKind.STUDY_CREATED: wire.EVENT_KIND_STUDY_CREATED,
    EventKind.STUDY_STARTED: wire.EVENT_KIND_STUDY_STARTED,
    EventKind.STUDY_PAUSED: wire.EVENT_KIND_STUDY_PAUSED,
    EventKind.STUDY_RESUMED: wire.EVENT_KIND_STUDY_RESUMED,
    EventKind.STUDY_STOPPED: wire.EVENT_KIND_STUDY_STOPPED,
    EventKind.STUDY_COMPLETED: wire.EVENT_KIND_STUDY_COMPLETED,
    EventKind.VISIT_LEASED: wire.EVENT_KIND_VISIT_LEASED,
    EventKind.VISIT_COMMITTED: wire.EVENT_KIND_VISIT_COMMITTED,
    EventKind.SITE_EVALUATED: wire.EVENT_KIND_SITE_EVALUATED,
    EventKind.EVALUATION_MISSED: wire.EVENT_KIND_EVALUATION_MISSED,
    EventKind.SITE_SKIPPED: wire.EVENT_KIND_SITE_SKIPPED,
    EventKind.SITE_WITHDRAWN: wire.EVENT_KIND_SITE_WITHDRAWN,
    EventKind.SITE_ADDED: wire.EVENT_KIND_SITE_ADDED,
    EventKind.SITES_REORDERED: wire.EVENT_KIND_SITES_REORDERED,
    EventKind.SITE_REFUSED: wire.EVENT_KIND_SITE_REFUSED,
    EventKind.SITE_RETURNED: wire.EVENT_KIND_SITE_RETURNED,
}
_REMEDIES: Mapping[Remedy, wire.Remedy.ValueType] = {
    Remedy.CONTINUE: wire.REMEDY_CONTINUE,
    Remedy.MARK: wire.REMEDY_MARK,
}
_REMEDY_OF: Mapping[int, Remedy] = {number: remedy for remedy, number in _REMEDIES.items()}
_STANDING_OF: Mapping[int, Standing] = {number: standing for standing, number in _STANDINGS.items()}
_SITE_STANDING_OF: Mapping[int, SiteStanding] = {
    number: standing for standing, number in _SITE_STANDINGS.items()
}
_KIND_OF: Mapping[int, EventKind] = {number: kind for kind, number in _KINDS.items()}


def encode_change(study_id: str, change: Change) -> wire.ChangeRequest:
    """Return the request for a change."""
    request = wire.ChangeRequest(study_id=study_id)
    match change:
        case Start():
            request.start.SetInParent()
        case Pause():
            request.pause.SetInParent()
        case Resume():
            request.resume.SetInParent()
        case Stop():
            request.stop.SetInParent()
        case Skip(site_id=site_id):
            request.skip.site_id = site_id
        case Withdraw(site_id=site_id, remedy=remedy):
            request.withdraw.site_id = site_id
            if remedy is not None:
                request.withdraw.remedy = _REMEDIES[remedy]
        case Add(site_id=site_id):
            request.add.site_id = site_id
        case Reorder(to_come=to_come):
            request.reorder.to_come.extend(to_come)
        case _:
            assert_never(change)
    return request


def decode_change(request: wire.ChangeRequest) -> Change:
    """Return the change that is asked for, or raise `WireError`."""
    match request.WhichOneof("change"):
        case "start":
            return Start()
        case "pause":
            return Pause()
        case "resume":
            return Resume()
        case "stop":
            return Stop()
        case "skip":
            return Skip(_site(request.skip.site_id))
        case "withdraw":
            chosen = request.withdraw.remedy
            remedy = _known("remedy", chosen, _REMEDY_OF) if chosen else None
            return Withdraw(_site(request.withdraw.site_id), remedy)
        case "add":
            return Add(_site(request.add.site_id))
        case "reorder":
            return Reorder(_sites(request.reorder.to_come))
        case _:
            raise WireError(
                "a change of no known kind was asked for. Both sides must run the same release."
            )


def encode_status(status: StudyStatus) -> wire.StudyStatus:
    """Return the message that says where a study stands."""
    due = status.due
    return wire.StudyStatus(
        study_id=status.study_id,
        plan_digest=status.plan_digest,
        standing=_STANDINGS[status.standing],
        sites=[
            wire.SiteStatus(
                site_id=site.site_id,
                standing=_SITE_STANDINGS[site.standing],
                visit=site.visit,
                dice=site.dice,
                is_present=site.is_present,
                by=site.by or "",
                refusal=codec.reason_number(site.refusal),
            )
            for site in status.sites
        ],
        due=None
        if due is None
        else wire.Due(
            site_id=due.site_id,
            visit=due.visit,
            is_visit=due.is_visit,
            absent_seconds=due.absent_s,
        ),
        progress=b"" if status.progress is None else codec.encode(status.progress),
        checkpoint_digest=status.checkpoint_digest,
        num_events=status.num_events,
        withdrawals=[_withdrawal_record(one) for one in status.withdrawals],
    )


def decode_status(message: wire.StudyStatus) -> StudyStatus:
    """Return where a study stands, or raise `WireError`."""
    due = message.due
    return StudyStatus(
        study_id=message.study_id,
        plan_digest=message.plan_digest,
        standing=_known("standing", message.standing, _STANDING_OF),
        sites=tuple(
            SiteStatus(
                site_id=_site(site.site_id),
                standing=_known("standing of a site", site.standing, _SITE_STANDING_OF),
                visit=site.visit,
                dice=_dice(site.dice) if site.HasField("dice") else None,
                is_present=site.is_present,
                by=_site(site.by) if site.by else None,
                refusal=_reason(site.refusal),
            )
            for site in message.sites
        ),
        due=Due(
            site_id=_site(due.site_id),
            visit=due.visit,
            is_visit=due.is_visit,
            absent_s=due.absent_seconds,
        )
        if message.HasField("due")
        else None,
        progress=codec.decode_progress(message.progress) if message.progress else None,
        checkpoint_digest=message.checkpoint_digest,
        num_events=message.num_events,
        withdrawals=tuple(_withdrawal(one) for one in message.withdrawals),
    )


def encode_news(news: News) -> wire.WatchResponse:
    """Return the message that tells a watcher what is new."""
    return wire.WatchResponse(
        events=[
            wire.StudyEvent(
                number=event.number,
                kind=_KINDS[event.kind],
                visit=event.visit,
                site_id=event.site_id or "",
                dice=event.dice,
                by=event.by or "",
                to_come=event.to_come,
                refusal=codec.reason_number(event.refusal),
            )
            for event in news.events
        ],
        status=encode_status(news.status),
    )


def decode_news(message: wire.WatchResponse) -> News:
    """Return what is new, or raise `WireError`."""
    return News(
        events=tuple(
            StudyEvent(
                number=event.number,
                kind=_known("kind of an event", event.kind, _KIND_OF),
                visit=event.visit if event.HasField("visit") else None,
                site_id=_site(event.site_id) if event.site_id else None,
                dice=_dice(event.dice) if event.HasField("dice") else None,
                by=_site(event.by) if event.by else None,
                to_come=_sites(event.to_come),
                refusal=_reason(event.refusal),
            )
            for event in message.events
        ),
        status=decode_status(message.status),
    )


def _withdrawal_record(one: Withdrawal) -> wire.Withdrawal:
    return wire.Withdrawal(
        site_id=one.site_id,
        remedy=_REMEDIES[one.remedy],
        by=one.by,
        dropped=[
            checkpoint_pb2.PartRef(name=part.name, digest=part.digest, size_bytes=part.size_bytes)
            for part in one.dropped
        ],
        descendants=[
            wire.Descendant(visit=each.visit, site_id=each.site_id, digest=each.digest)
            for each in one.descendants
        ],
    )


def _withdrawal(message: wire.Withdrawal) -> Withdrawal:
    dropped = tuple(
        PartRef(name=part.name, digest=part.digest, size_bytes=part.size_bytes)
        for part in message.dropped
    )
    for part in dropped:
        rules.check_part(part)
    return Withdrawal(
        site_id=_site(message.site_id),
        remedy=_known("remedy", message.remedy, _REMEDY_OF),
        by=_site(message.by),
        dropped=dropped,
        descendants=tuple(
            Descendant(visit=each.visit, site_id=_site(each.site_id), digest=each.digest)
            for each in message.descendants
        ),
    )


def _known(what: str, number: int, known: Mapping[int, _K]) -> _K:
    if number not in known:
        raise WireError(f"{what} {number} is not known. Both sides must run the same release.")
    return known[number]


def _reason(number: int) -> RefusalReason | None:
    return _known("refusal", number, codec.REASON_OF) if number else None


def _dice(value: float) -> float:
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise WireError(f"a Dice of {value} arrived, expected one in [0, 1].")
    return value


def _site(name: str) -> str:
    if not rules.SITE_ID.fullmatch(name):
        raise WireError(
            f"{name!a:.80} is no name of a site, which is lower-case letters, digits and '-', "
            f"at most 32. Name a site of the study."
        )
    return name


def _sites(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(_site(name) for name in names)
