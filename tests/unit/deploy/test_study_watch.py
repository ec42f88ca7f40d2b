"""A study that is followed from afar looks as one that is simulated, and says what holds it up."""

import io
import json
from dataclasses import replace

import pytest

from wardround.deploy import study_text
from wardround.deploy.progress import PlainWatcher
from wardround.deploy.study_watch import follow
from wardround.shared.messages import Phase, Progress, RefusalReason
from wardround.shared.study_api import (
    Due,
    EventKind,
    News,
    SiteStanding,
    SiteStatus,
    Standing,
    StudyEvent,
    StudyStatus,
)

VISITING = StudyStatus(
    study_id="tiny",
    plan_digest="a" * 64,
    standing=Standing.RUNNING,
    sites=(
        SiteStatus(site_id="ada", standing=SiteStanding.VISITED, visit=1, dice=0.75),
        SiteStatus(site_id="ben", standing=SiteStanding.VISITING, visit=2, is_present=True),
        SiteStatus(site_id="cai", standing=SiteStanding.SKIPPED, by="anna"),
    ),
    due=Due(site_id="ben", visit=2, is_visit=True),
    progress=Progress(visit=2, site_id="ben", phase=Phase.SEGMENTER, step=3, total=9),
    checkpoint_digest="b" * 64,
    num_events=7,
)
AWAY = replace(
    VISITING, progress=None, due=Due(site_id="ben", visit=2, is_visit=True, absent_s=600)
)


def test_a_followed_study_is_told_phase_by_phase_and_change_by_change(tiny_plan) -> None:
    stream = io.StringIO()
    committed = StudyEvent(
        number=5, kind=EventKind.VISIT_COMMITTED, visit=1, site_id="ada", dice=0.75
    )
    skipped = StudyEvent(number=6, kind=EventKind.SITE_SKIPPED, site_id="cai", by="anna")
    told = [
        News(events=(committed, skipped), status=VISITING),
        News(events=(), status=VISITING),
        News(events=(), status=AWAY),
        News(events=(), status=AWAY),
        News(events=(), status=VISITING),
    ]
    assert follow(told, PlainWatcher(tiny_plan, stream)) == VISITING
    assert stream.getvalue().splitlines() == [
        "visit 1 of 3 at ada done, Dice 0.750 on its own held-out cases",
        "cai was skipped (operator anna)",
        "visit 2 of 3 at ben: training the segmenter; estimating the time left",
        "waiting for ben to make visit 2; it is absent",
    ]


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (VISITING, "waiting for ben to make visit 2: training the segmenter, step 3 of 9"),
        (AWAY, "waiting for ben to make visit 2; it is absent"),
        (
            replace(AWAY, due=Due(site_id="ada", visit=0, is_visit=False)),
            "waiting for ada to score the checkpoint of visit 0",
        ),
        (
            replace(VISITING, standing=Standing.PAUSED, progress=None),
            "waiting for ben to make visit 2; then paused",
        ),
        (
            replace(VISITING, standing=Standing.PAUSED, sites=VISITING.sites[:1]),
            "paused; waiting to be resumed",
        ),
        (replace(VISITING, standing=Standing.ON_HOLD), "waiting to be started"),
        (replace(VISITING, standing=Standing.STOPPED, due=None), "the study is stopped"),
        (replace(VISITING, due=None), "nothing is left to do"),
    ],
)
def test_what_is_waited_for_is_a_sentence(status: StudyStatus, text: str) -> None:
    assert study_text.waiting_text(status) == text


def test_the_status_counts_visits_that_will_be_made() -> None:
    assert study_text.title(VISITING) == "tiny: running, 1 of 2 visits made"
    assert study_text.silence_text(AWAY) == "ben was not heard from for 10 min"
    assert study_text.silence_text(VISITING) == ""


@pytest.mark.parametrize("kind", EventKind)
def test_every_event_is_a_phrase(kind: EventKind) -> None:
    event = StudyEvent(
        number=1, kind=kind, visit=2, site_id="ada", dice=0.5, to_come=("ben", "cai"), by="anna"
    )
    text = study_text.event_text(event)
    assert text.endswith(" (operator anna)")
    assert "None" not in text


def test_who_was_absent_is_told_from_who_was_skipped_by_an_operator() -> None:
    event = StudyEvent(number=1, kind=EventKind.SITE_SKIPPED, site_id="ada")
    assert study_text.event_text(event) == "ada was skipped (absent; as the plan says)"


@pytest.mark.parametrize("reason", RefusalReason)
def test_why_a_site_refuses_is_said(reason: RefusalReason) -> None:
    event = StudyEvent(number=1, kind=EventKind.SITE_REFUSED, site_id="ada", refusal=reason)
    assert study_text.event_text(event).startswith("ada refuses: its ")


def test_a_status_becomes_values_that_json_holds() -> None:
    content = json.loads(json.dumps(study_text.plain(VISITING)))
    assert content["standing"] == "running"
    assert content["sites"][2] == {
        "site_id": "cai",
        "standing": "skipped",
        "visit": 0,
        "dice": None,
        "is_present": False,
        "by": "anna",
        "refusal": None,
    }
    assert content["progress"]["phase"] == "segmenter"


def test_a_site_that_refuses_is_said_to_and_why() -> None:
    ada, ben, cai = VISITING.sites
    refusing = replace(
        AWAY, sites=(ada, replace(ben, refusal=RefusalReason.BUDGET_SPENT), replace(cai, by=None))
    )
    why = "its privacy budget is spent"
    assert study_text.waiting_text(refusing) == (
        f"waiting for ben to make visit 2; it refuses, for {why}"
    )
    standing = list(study_text.status_table(refusing).columns[2].cells)
    assert standing == ["visited", f"visiting; refuses: {why}", "skipped (was absent)"]
