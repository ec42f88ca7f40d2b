"""What the coordinator does about a site that refuses: as about one that is absent, at once."""

import asyncio
from dataclasses import replace

import pytest

from wardround.server.live_study import LiveStudy
from wardround.server.presence import Presence
from wardround.shared.messages import RefusalReason


@pytest.fixture
def live(world, tmp_path):
    """Return a function that serves a study under an absence policy for its first site."""
    opened = []

    def serve(policy: str) -> LiveStudy:
        absence = world.plan.absence.model_copy(update={"sites": {world.sites[0]: policy}})
        plan = world.plan.model_copy(update={"absence": absence})
        (tmp_path / policy).mkdir()
        relay = replace(world, plan=plan).relay(tmp_path / policy)
        study = LiveStudy(relay, Presence(interval_s=10))
        opened.append(study)
        return study

    yield serve
    for study in opened:
        study.close()


def refusals(study: LiveStudy) -> dict:
    return {site.site_id: site.refusal for site in study.status().sites}


def test_a_site_that_refuses_is_shown_and_waited_for_until_it_comes(live, world):
    study, first = live("wait"), world.sites[0]
    asyncio.run(study.refuse(first, RefusalReason.BUDGET_SPENT))
    assert refusals(study)[first] is RefusalReason.BUDGET_SPENT
    assert study.relay.due().site_id == first
    study.accept(first)
    assert refusals(study)[first] is None


def test_a_site_that_refuses_is_skipped_at_once_where_the_plan_says_so(live, world):
    study, first = live("skip"), world.sites[0]
    asyncio.run(study.refuse(first, RefusalReason.POLICY))
    state = study.relay.state
    assert dict(state.skipped) == {first: None}
    assert (0, first) in state.missed
    assert study.relay.due().site_id == world.sites[1]


def test_the_study_stops_at_once_where_the_plan_says_so(live, world):
    study = live("stop")
    asyncio.run(study.refuse(world.sites[0], RefusalReason.NOT_APPROVED))
    assert study.relay.state.has_ended


def test_a_site_whose_turn_it_is_not_is_shown_and_nothing_else(live, world):
    study = live("stop")
    asyncio.run(study.refuse(world.sites[1], RefusalReason.NOT_APPROVED))
    assert not study.relay.state.has_ended
    assert refusals(study)[world.sites[1]] is RefusalReason.NOT_APPROVED
