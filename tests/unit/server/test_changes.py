"""What an operator may change, and what not; repeated, it changes nothing."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wardround.server import changes, events
from wardround.server.state import Complete, EvaluateAt, MakeVisit, apply, fold, next_action
from wardround.shared.errors import JournalError, UsageError
from wardround.shared.study_api import (
    Add,
    Pause,
    Remedy,
    Reorder,
    Resume,
    Skip,
    Standing,
    Start,
    Stop,
    Withdraw,
)

FROZEN = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
NO_VISIT_YET, LEASED, ONE_VISIT = 4, 5, 9  # events: row 0 is full; visit 1 leased; row 1 is full


def changed(state, plan, *asked):
    for change in asked:
        event = changes.event_of(state, plan, change, "anna")
        state = state if event is None else apply(state, event)
    return state


@pytest.mark.parametrize(
    "change",
    [Pause(), Stop(), Skip("ben"), Withdraw("ben"), Reorder(("cai", "ben", "ada"))],
    ids=lambda change: type(change).__name__,
)
def test_a_change_that_is_made_already_gives_no_event(world, change):
    state = fold(world.events()[:NO_VISIT_YET])
    event = changes.event_of(state, world.plan, change, "anna")
    assert event.by == "anna"
    assert changes.event_of(apply(state, event), world.plan, change, "anna") is None


def test_start_and_resume_of_a_study_that_runs_give_no_event(world):
    state = fold(world.events()[:1])
    assert changes.event_of(state, world.plan, Start(), "anna") is None
    assert changes.event_of(state, world.plan, Resume(), "anna") is None
    assert changes.event_of(state, world.plan, Add("ben"), "anna") is None


def test_a_study_on_hold_is_started_and_one_that_is_paused_resumed(world):
    created = replace(world.events()[0], is_on_hold=True)
    held = fold([created])
    assert held.standing is Standing.ON_HOLD
    with pytest.raises(UsageError, match="Begin one that is on hold with 'start'"):
        changed(held, world.plan, Resume())
    with pytest.raises(UsageError, match="Only a study that runs"):
        changed(held, world.plan, Pause())
    paused = changed(held, world.plan, Start(), Pause())
    assert paused.standing is Standing.PAUSED
    with pytest.raises(UsageError, match="Go on after a pause with 'resume'"):
        changed(paused, world.plan, Start())
    assert changed(paused, world.plan, Resume()).standing is Standing.RUNNING


def test_a_skipped_site_makes_no_visit_and_is_still_asked_for_scores(world):
    state = changed(fold(world.events()[:NO_VISIT_YET]), world.plan, Skip("ada"))
    assert next_action(state).site_id == "ben"
    assert state.sites == ("ben", "cai", "ada")
    assert state.skipped == {"ada": "anna"}
    row = fold(world.events()[:1])
    assert next_action(changed(row, world.plan, Skip("ada"))).site_id == "ada"


def test_a_visit_under_way_is_dropped_when_its_site_is_skipped(world):
    happened = world.events()
    state = changed(fold(happened[:LEASED]), world.plan, Skip("ada"))
    assert not state.is_visiting
    assert next_action(state) == MakeVisit(visit=1, site_id="ben", parent=world.ref(0), visited=())
    with pytest.raises(JournalError):
        apply(state, happened[LEASED])


def test_a_site_that_was_withdrawn_before_its_visit_is_asked_for_nothing_any_more(world):
    state = changed(fold(world.events()[:NO_VISIT_YET]), world.plan, Withdraw("ada"))
    assert next_action(state) == MakeVisit(visit=1, site_id="ben", parent=world.ref(0), visited=())


def test_a_site_that_was_left_out_comes_back_at_the_end(world):
    state = fold(world.events()[:NO_VISIT_YET])
    for out in (Skip("ada"), Withdraw("ada")):
        back = changed(state, world.plan, out, Add("ada"))
        assert back.to_come == ("ben", "cai", "ada")
        assert (back.skipped, back.withdrawn) == ({}, {})


def test_a_site_that_was_visited_is_neither_skipped_nor_added(world):
    state = fold(world.events()[:ONE_VISIT])
    with pytest.raises(UsageError, match=r"'ada' was visited already \(visit 1"):
        changed(state, world.plan, Skip("ada"))
    with pytest.raises(UsageError, match="visited once"):
        changed(state, world.plan, Add("ada"))


@pytest.mark.parametrize("change", [Skip("zoe"), Withdraw("zoe")])
def test_a_site_that_takes_no_part_is_not_left_out(world, change):
    with pytest.raises(UsageError, match="whose sites are ada, ben, cai"):
        changed(fold(world.events()[:1]), world.plan, change)


def test_a_late_site_needs_a_plan_that_allows_it(world):
    state = fold(world.events()[:ONE_VISIT])
    with pytest.raises(UsageError, match="late_sites = true"):
        changed(state, world.plan, Add("zoe"))
    late = changed(state, world.plan.model_copy(update={"late_sites": True}), Add("zoe"))
    assert late.to_come == ("ben", "cai", "zoe")
    assert late.members == ("ada", "ben", "cai", "zoe")
    # It scores the checkpoint that is there; what came before it, it never saw.
    assert next_action(late) == EvaluateAt(visit=1, site_id="zoe", checkpoint=world.ref(1))
    assert late.results()[0] == (0.25, 0.25, 0.25, None)


def test_a_site_added_while_a_visit_is_under_way_lets_it_end(world):
    plan = world.plan.model_copy(update={"late_sites": True})
    happened = world.events()
    state = changed(fold(happened[:LEASED]), plan, Add("zoe"))
    assert next_action(state).site_id == "ada"
    assert apply(state, happened[LEASED]).num_visits == 1


def test_only_visits_that_have_not_begun_are_reordered(world):
    state = fold(world.events()[:LEASED])
    assert changed(state, world.plan, Reorder(("cai", "ben"))).to_come == ("ada", "cai", "ben")
    for wrong in (("ada", "ben", "cai"), ("ben",), ("ben", "ben"), ("ben", "zoe"), ()):
        with pytest.raises(UsageError, match=r"does not name .* Name each of them once: ben, cai"):
            changed(state, world.plan, Reorder(wrong))


@pytest.mark.parametrize(
    "change", [Pause(), Resume(), Start(), Skip("ben"), Withdraw("ben"), Add("zoe"), Reorder(())]
)
def test_nothing_changes_in_a_study_that_has_ended(world, change):
    complete = fold(world.events())
    stopped = changed(fold(world.events()[:LEASED]), world.plan, Stop())
    for state in (complete, stopped):
        assert next_action(state) is None
        with pytest.raises(UsageError):
            changed(state, world.plan, change)
    with pytest.raises(UsageError, match="it is complete"):
        changed(complete, world.plan, Stop())


CHANGES = st.one_of(
    st.sampled_from([Start(), Pause(), Resume(), Stop()]),
    st.sampled_from(["ada", "ben", "cai", "dan", "zoe"]).flatmap(
        lambda site: st.sampled_from(
            [Skip(site), Add(site), *(Withdraw(site, remedy) for remedy in (None, *Remedy))]
        )
    ),
    st.permutations(["ada", "ben", "cai"]).map(lambda order: Reorder(tuple(order))),
)


@FROZEN
@given(st.lists(CHANGES, max_size=12), st.data())
def test_whatever_is_asked_the_study_ends_and_its_journal_gives_the_same_state(world, asked, data):
    """Between the changes the study goes on as far as it will; every site is asked once at most."""
    plan = world.plan.model_copy(update={"late_sites": True})
    happened = [world.events()[0]]
    state = fold(happened)

    def happens(event):
        happened.append(event)
        return apply(state, event)

    for change in [*asked, Start(), Resume()]:
        try:
            event = changes.event_of(state, plan, change, "anna")
        except UsageError:
            event = None
        if event is not None:
            state = happens(event)
        for _ in range(data.draw(st.integers(0, 6))):
            state = happens(step) if (step := a_step(world, state)) else state
    while (step := a_step(world, state)) is not None:
        state = happens(step)
    assert state.has_ended
    assert fold(happened) == state
    assert [events.from_json(events.to_json(event)) for event in happened] == happened
    assert len(set(state.visited)) == len(state.visited)
    assert sorted(state.sites) == sorted(state.members)
    assert not set(state.visited) & set(state.skipped)


def a_step(world, state):
    """Return the event with which the study goes on."""
    match next_action(state):
        case MakeVisit(visit=visit, site_id=site_id) if state.leased < visit:
            return events.VisitLeased(visit=visit, site_id=site_id, parent=state.checkpoint.digest)
        case MakeVisit(visit=visit, site_id=site_id):
            report = replace(world.report(1), visit=visit, site_id=site_id)
            return events.VisitCommitted(checkpoint=world.ref(min(visit, 3)), report=report)
        case EvaluateAt(visit=visit, site_id=site_id, checkpoint=checkpoint):
            if site_id in state.skipped:
                return events.EvaluationMissed(visit=visit, site_id=site_id)
            report = replace(
                world.evaluation(0, site_id), visit=visit, checkpoint_digest=checkpoint.digest
            )
            return events.SiteEvaluated(report=report)
        case Complete():
            return events.StudyCompleted(checkpoint=state.checkpoint.digest)
