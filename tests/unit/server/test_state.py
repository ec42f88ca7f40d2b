from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wardround.server import events
from wardround.server.state import Complete, EvaluateAt, MakeVisit, apply, fold, next_action
from wardround.shared.errors import JournalError

# The world of a test is a frozen value, so one for all of its examples will do.
FROZEN = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_no_events_give_no_state():
    assert fold([]) is None


def test_the_starting_checkpoint_is_scored_everywhere_before_the_first_visit(world):
    actions = [next_action(fold(world.events()[: 1 + done])) for done in range(4)]
    assert actions[:3] == [
        EvaluateAt(visit=0, site_id=site_id, checkpoint=world.ref(0)) for site_id in world.sites
    ]
    assert actions[3] == MakeVisit(visit=1, site_id="ada", parent=world.ref(0), visited=())


def test_each_visit_starts_from_the_one_before_and_is_scored_everywhere(world):
    happened = world.events()
    second_visit = fold(happened[:9])
    assert next_action(second_visit) == MakeVisit(
        visit=2, site_id="ben", parent=world.ref(1), visited=("ada",)
    )
    leased = apply(second_visit, happened[9])
    assert leased.leased == 2
    assert next_action(leased) == next_action(second_visit)
    assert next_action(apply(leased, happened[10])) == EvaluateAt(
        visit=2, site_id="ada", checkpoint=world.ref(2)
    )


def test_a_study_ends_when_the_last_row_is_full(world):
    happened = world.events()
    assert next_action(fold(happened[:-1])) == Complete()
    state = fold(happened)
    assert state.is_complete
    assert next_action(state) is None
    assert state.num_visits == 3
    assert state.checkpoint == world.ref(3)


def test_the_results_matrix_has_a_row_for_each_checkpoint_and_gaps_where_nothing_is_known(world):
    state = fold(world.events()[:8])  # created, three cells, leased, committed, two cells
    assert state.results() == ((0.25, 0.25, 0.25), (0.25, 0.25, None))


@FROZEN
@given(st.data())
def test_an_event_told_twice_changes_nothing_or_is_refused(world, data):
    happened = world.events()
    count = data.draw(st.integers(1, len(happened)))
    again = data.draw(st.integers(0, count - 1))
    state = fold(happened[:count])
    repeatable = (events.VisitCommitted, events.SiteEvaluated, events.StudyCompleted)
    if isinstance(happened[again], repeatable):
        assert apply(state, happened[again]) == state
    elif not (isinstance(happened[again], events.VisitLeased) and again == count - 1):
        with pytest.raises(JournalError):
            apply(state, happened[again])


@FROZEN
@given(st.data())
def test_events_out_of_order_are_refused(world, data):
    happened = world.events()
    count = data.draw(st.integers(0, len(happened) - 2))
    early = data.draw(st.integers(count + 1, len(happened) - 1))
    with pytest.raises(JournalError):
        apply(fold(happened[:count]), happened[early])


def test_a_second_commit_may_differ_in_its_timings_alone(world):
    state = fold(world.events()[:6])
    slower = events.VisitCommitted(checkpoint=world.ref(1), report=world.report(1, seconds=9.0))
    assert apply(state, slower) == state
    for other in (
        events.VisitCommitted(checkpoint=world.ref(1), report=world.report(1, dice=0.9)),
        events.VisitCommitted(
            checkpoint=world.ref(1, segmenter=world.parts(2)["segmenter"]), report=world.report(1)
        ),
    ):
        with pytest.raises(JournalError, match="different commit"):
            apply(state, other)


def test_a_second_evaluation_must_equal_the_first(world):
    state = fold(world.events()[:2])
    other = events.SiteEvaluated(report=world.evaluation(0, "ada", dice=0.9))
    with pytest.raises(JournalError, match="different evaluation"):
        apply(state, other)


def test_an_evaluation_of_another_checkpoint_is_refused(world):
    state = fold(world.events()[:1])
    report = replace(world.evaluation(0, "ada"), checkpoint_digest="0" * 64)
    with pytest.raises(JournalError):
        apply(state, events.SiteEvaluated(report=report))


def test_a_commit_without_a_lease_is_refused(world):
    state = fold(world.events()[:4])
    with pytest.raises(JournalError):
        apply(state, world.events()[5])
