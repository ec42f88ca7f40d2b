"""What crosses the study API comes back as it was; what is not of its form is refused."""

import pytest

from wardround.shared import study_codec
from wardround.shared.errors import WireError
from wardround.shared.messages import PartRef, Phase, Progress, RefusalReason
from wardround.shared.study_api import (
    WORDS,
    Add,
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
from wardround.wire.v1 import study_pb2 as wire

CHANGES = [
    Start(),
    Pause(),
    Resume(),
    Stop(),
    Skip("ada"),
    Withdraw("ada"),
    Withdraw("ada", Remedy.CONTINUE),
    Withdraw("ada", Remedy.MARK),
    Add("zoe"),
    Reorder(("ben", "ada")),
]
STATUS = StudyStatus(
    study_id="tiny",
    plan_digest="a" * 64,
    standing=Standing.RUNNING,
    sites=(
        SiteStatus(
            site_id="ada", standing=SiteStanding.VISITED, visit=1, dice=0.0, is_present=True
        ),
        SiteStatus(site_id="ben", standing=SiteStanding.SKIPPED, by="anna"),
    ),
    due=Due(site_id="ada", visit=1, is_visit=False, absent_s=90),
    progress=Progress(visit=1, site_id="ada", phase=Phase.EVALUATE, step=0, total=4),
    checkpoint_digest="b" * 64,
    num_events=7,
    withdrawals=(
        Withdrawal(
            site_id="ada",
            remedy=Remedy.MARK,
            by="anna",
            dropped=(PartRef(name="prompt.ada", digest="c" * 64, size_bytes=9),),
            descendants=(Descendant(visit=1, site_id="ada", digest="d" * 64),),
        ),
    ),
)
EVENTS = (
    StudyEvent(number=1, kind=EventKind.STUDY_CREATED),
    StudyEvent(number=2, kind=EventKind.SITE_EVALUATED, visit=0, site_id="ada", dice=0.0),
    StudyEvent(number=3, kind=EventKind.SITES_REORDERED, by="anna", to_come=("ben", "ada")),
    StudyEvent(
        number=4,
        kind=EventKind.SITE_REFUSED,
        site_id="ada",
        refusal=RefusalReason.AUDIT_FAILED,
    ),
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
def test_a_change_comes_back_as_it_was(change) -> None:
    request = wire.ChangeRequest()
    request.ParseFromString(study_codec.encode_change("tiny", change).SerializeToString())
    assert request.study_id == "tiny"
    assert study_codec.decode_change(request) == change


def test_every_change_has_a_word() -> None:
    assert set(WORDS) == {type(change) for change in CHANGES}


def test_news_come_back_as_they_were() -> None:
    news = News(events=EVENTS, status=STATUS)
    message = wire.WatchResponse()
    message.ParseFromString(study_codec.encode_news(news).SerializeToString())
    assert study_codec.decode_news(message) == news


@pytest.mark.parametrize("kind", EventKind)
@pytest.mark.parametrize("standing", Standing)
def test_every_kind_and_standing_has_its_number(kind: EventKind, standing: Standing) -> None:
    status = StudyStatus(
        study_id="tiny",
        plan_digest="a" * 64,
        standing=standing,
        sites=tuple(SiteStatus(site_id="ada", standing=one) for one in SiteStanding),
        due=None,
        progress=None,
        checkpoint_digest="b" * 64,
        num_events=1,
    )
    news = News(events=(StudyEvent(number=1, kind=kind),), status=status)
    assert study_codec.decode_news(study_codec.encode_news(news)) == news


@pytest.mark.parametrize("name", ["", "Ada", "a b", "../ada", "a" * 33])
def test_a_name_of_another_spelling_is_refused(name: str) -> None:
    for request in (
        wire.ChangeRequest(skip=wire.Skip(site_id=name)),
        wire.ChangeRequest(reorder=wire.Reorder(to_come=["ada", name])),
    ):
        with pytest.raises(WireError, match="no name of a site"):
            study_codec.decode_change(request)


def test_what_is_not_set_or_not_known_is_refused() -> None:
    with pytest.raises(WireError, match="no known kind"):
        study_codec.decode_change(wire.ChangeRequest(study_id="tiny"))
    message = study_codec.encode_news(News(events=EVENTS, status=STATUS))
    for spoil in (
        lambda: setattr(message.status, "standing", 0),
        lambda: setattr(message.events[0], "kind", 99),
        lambda: setattr(message.events[1], "dice", float("nan")),
    ):
        before = wire.WatchResponse()
        before.CopyFrom(message)
        spoil()
        with pytest.raises(WireError):
            study_codec.decode_news(message)
        message.CopyFrom(before)
