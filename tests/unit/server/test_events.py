import json

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


@pytest.mark.parametrize("content", [None, 3, "x", [], {}, {"event": "StudyCreated"}])
def test_what_is_no_event_at_all_is_refused(content):
    with pytest.raises(JournalError):
        events.from_json(content)
