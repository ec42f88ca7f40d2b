"""What is done about a site that is absent when it is its turn."""

import pytest

from wardround.server import absence
from wardround.server.events import EvaluationMissed, SiteSkipped, StudyPaused, StudyStopped
from wardround.server.state import Complete, apply, fold, next_action
from wardround.shared.plan import Absence

LONG, SHORT = 60.0, 59.9


def plan_with(world, policy, **sites):
    return world.plan.model_copy(
        update={"absence": Absence(policy=policy, after_s=60, sites=sites)}
    )


@pytest.mark.parametrize("count", [1, 4, 5, 6])
def test_a_site_is_waited_for_unless_the_plan_says_otherwise(world, count):
    state = fold(world.events()[:count])
    assert absence.event_of(state, world.plan, next_action(state).site_id, 1e9) is None


@pytest.mark.parametrize("count", [1, 4, 5])
def test_a_site_with_a_visit_to_come_is_skipped_after_the_plans_seconds(world, count):
    state, plan = fold(world.events()[:count]), plan_with(world, "skip")
    assert absence.event_of(state, plan, "ada", SHORT) is None
    assert absence.event_of(state, plan, "ada", LONG) == SiteSkipped(site_id="ada", by=None)


def test_a_visited_site_misses_the_one_evaluation_and_is_not_skipped(world):
    state, plan = fold(world.events()[:6]), plan_with(world, "skip")
    assert absence.event_of(state, plan, "ada", SHORT) is None
    event = absence.event_of(state, plan, "ada", LONG)
    assert event == EvaluationMissed(visit=1, site_id="ada")
    assert next_action(apply(state, event)).site_id == "ben"


def test_a_site_that_was_skipped_is_not_waited_for(world):
    state = apply(fold(world.events()[:1]), SiteSkipped(site_id="ada", by="anna"))
    event = absence.event_of(state, world.plan, "ada", 1.0)
    assert event == EvaluationMissed(visit=0, site_id="ada")
    assert apply(state, event).results() == ((None, None, None),)


def test_the_policy_of_a_single_site_wins(world):
    plan = plan_with(world, "skip", ada="stop", ben="wait")
    state = fold(world.events()[:1])
    assert absence.event_of(state, plan, "ada", LONG) == StudyStopped(by=None)
    state = fold(world.events()[:2])
    assert absence.event_of(state, plan, "ben", 1e9) is None


def test_whose_turn_it_is_not_may_be_absent(world):
    state = fold(world.events()[:1])
    assert absence.event_of(state, plan_with(world, "skip"), "ben", LONG) is None


def test_nothing_happens_in_a_study_that_is_paused_or_has_ended(world):
    plan = plan_with(world, "skip")
    paused = apply(fold(world.events()[:1]), StudyPaused(by="anna"))
    assert absence.event_of(paused, plan, "ada", LONG) is None
    assert absence.event_of(fold(world.events()), plan, "ada", LONG) is None


def test_a_study_whose_sites_are_all_absent_comes_to_its_end(world):
    state, plan = fold(world.events()[:1]), plan_with(world, "skip")
    while not isinstance(next_action(state), Complete):
        site_id = next_action(state).site_id
        state = apply(state, absence.event_of(state, plan, site_id, LONG))
    assert state.visited == ()
    assert set(state.skipped) == {"ada", "ben", "cai"}
