"""What the coordinator does about a site that refuses: as about one that is absent, at once."""

import asyncio
import shutil
from dataclasses import replace

import pytest

from wardround.server.events import SiteRefused, SiteReturned
from wardround.server.journal import Journal
from wardround.server.live_study import LiveStudy
from wardround.server.presence import Presence
from wardround.server.relay import Relay
from wardround.server.state import apply
from wardround.server.store import ArtefactStore
from wardround.shared.errors import JournalError
from wardround.shared.messages import RefusalReason
from wardround.shared.trail import Trail


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
    asyncio.run(study.accept(first))
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


def test_a_coordinator_that_is_started_anew_knows_who_refuses(live, world, tmp_path):
    study, (first, second, _) = live("wait"), world.sites
    asyncio.run(study.refuse(first, RefusalReason.AUDIT_FAILED))
    asyncio.run(study.refuse(second, RefusalReason.POLICY))
    asyncio.run(study.accept(second))
    folder = shutil.copytree(tmp_path / "wait", tmp_path / "again")
    trail = Trail(folder / "audit", holder="wardround://coordinator/coordinator")
    store = ArtefactStore(folder / "checkpoints")
    again = LiveStudy(Relay(Journal(folder / "journal"), store, trail), Presence(interval_s=10))
    assert refusals(again) == {
        first: RefusalReason.AUDIT_FAILED,
        second: None,
        world.sites[2]: None,
    }
    asyncio.run(again.accept(first))
    assert refusals(again)[first] is None
    again.close()


def test_what_is_known_already_is_no_event(live, world):
    study, first = live("wait"), world.sites[0]
    asyncio.run(study.accept(first))
    for reason in (RefusalReason.POLICY, RefusalReason.POLICY, RefusalReason.BUDGET_SPENT):
        asyncio.run(study.refuse(first, reason))
    asyncio.run(study.accept(first))
    asyncio.run(study.accept(first))
    assert study.relay.history[1:] == (
        SiteRefused(site_id=first, reason="policy"),
        SiteRefused(site_id=first, reason="budget-spent"),
        SiteReturned(site_id=first),
    )


def test_nothing_is_journalled_of_refusals_once_the_study_has_ended(live, world):
    study, first = live("stop"), world.sites[0]
    asyncio.run(study.refuse(first, RefusalReason.NOT_APPROVED))
    num_events = len(study.relay.history)
    asyncio.run(study.accept(first))
    asyncio.run(study.refuse(first, RefusalReason.POLICY))
    assert len(study.relay.history) == num_events
    with pytest.raises(JournalError, match="SiteReturned of 'ada' cannot follow"):
        apply(study.relay.state, SiteReturned(site_id=first))
