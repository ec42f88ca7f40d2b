import json
from dataclasses import replace

import pytest

from wardround.server import events
from wardround.shared.errors import JournalError


def test_every_event_comes_back_from_its_json(world):
    kinds = set()
    for event in world.events():
        content = json.loads(json.dumps(events.to_json(event)))
        assert events.from_json(content) == event
        kinds.add(type(event).__name__)
    assert kinds == {
        "StudyCreated",
        "VisitLeased",
        "VisitCommitted",
        "SiteEvaluated",
        "StudyCompleted",
    }


@pytest.mark.parametrize("number", ["folds", "tre_mm"])
def test_what_registration_alone_tells_comes_back_and_is_left_out_elsewhere(world, number):
    (plain, *_) = (e for e in world.events() if type(e).__name__ == "SiteEvaluated")
    registered = replace(plain, report=replace(plain.report, **{number: 0.25}))

    assert events.from_json(events.to_json(registered)) == registered
    assert number not in json.dumps(events.to_json(plain))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"event": "VisitErased"},
        {"note": "an additional key"},
        {"visit": "1"},
        {"parent": "not a digest"},
    ],
)
def test_an_event_of_another_form_is_refused(world, change):
    lease = events.to_json(world.events()[4])
    assert lease["event"] == "VisitLeased"
    with pytest.raises(JournalError, match="event cannot be read"):
        events.from_json({**lease, **change})


def test_a_missing_key_is_refused(world):
    content = events.to_json(world.events()[4])
    del content["site_id"]
    with pytest.raises(JournalError, match="site_id"):
        events.from_json(content)


def test_a_plan_that_does_not_give_its_digest_is_refused(world):
    content = events.to_json(world.events()[0])
    content["plan"]["seed"] = 1
    with pytest.raises(JournalError, match="digest"):
        events.from_json(content)


CHANGED = [
    events.StudyStarted(by="anna"),
    events.StudyPaused(by="anna"),
    events.StudyResumed(by="anna"),
    events.StudyStopped(by=None),
    events.StudyStopped(by="anna"),
    events.SiteSkipped(site_id="ada", by=None),
    events.SiteSkipped(site_id="ada", by="anna"),
    events.SiteWithdrawn(site_id="ada", by="anna"),
    events.SiteWithdrawn(site_id="ada", by="anna", remedy="mark"),
    events.SiteAdded(site_id="ada", by="anna"),
    events.SitesReordered(to_come=("ben", "ada"), by="anna"),
    events.SitesReordered(to_come=(), by="anna"),
    events.EvaluationMissed(visit=0, site_id="ada"),
    events.SiteRefused(site_id="ada", reason="audit-failed"),
    events.SiteReturned(site_id="ada"),
]


@pytest.mark.parametrize("event", CHANGED, ids=lambda event: type(event).__name__)
def test_a_change_comes_back_from_its_json_and_no_other_spelling_of_it_is_read(event):
    content = json.loads(json.dumps(events.to_json(event)))
    assert events.from_json(content) == event
    for key in set(content) - {"event", "version"}:
        for wrong in (7.5, True, "A b", ["A b"], {"ada": 1}):
            with pytest.raises(JournalError):
                events.from_json({**content, key: wrong})
        if key == "remedy":
            continue  # earlier releases knew none
        with pytest.raises(JournalError):
            events.from_json({k: v for k, v in content.items() if k != key})


@pytest.mark.parametrize("kind", [events.StudyPaused, events.SiteAdded])
def test_what_only_an_operator_does_names_one(kind):
    about = {} if kind is events.StudyPaused else {"site_id": "ada"}
    content = events.to_json(kind(by="anna", **about))
    with pytest.raises(JournalError, match="by is None"):
        events.from_json({**content, "by": None})


def test_a_study_of_the_first_release_is_spelled_as_it_was(world):
    created = world.events()[0]
    assert {"engine", "is_on_hold"}.isdisjoint(events.to_json(created))
    later = replace(created, engine="grpc", is_on_hold=True)
    assert events.from_json(events.to_json(later)) == later


@pytest.mark.parametrize("content", [None, 3, "x", [], {}, {"event": "StudyCreated"}])
def test_what_is_no_event_at_all_is_refused(content):
    with pytest.raises(JournalError):
        events.from_json(content)
