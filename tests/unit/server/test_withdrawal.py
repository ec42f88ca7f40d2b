"""What a withdrawal leaves of a study, event by event."""

import pytest

from wardround.server import changes, events
from wardround.server.state import EvaluateAt, MakeVisit, apply, fold, next_action
from wardround.server.withdrawal import without
from wardround.shared.checkpoint import part_ref, ref_of
from wardround.shared.errors import JournalError, UsageError
from wardround.shared.study_api import Add, Remedy, Standing, Stop, Withdraw

ONE_VISIT, TWO_VISITS = 9, 14  # events: the rows of visits 1 and 2 are full


def withdrawn(state, plan, site_id, remedy):
    event = changes.event_of(state, plan, Withdraw(site_id, remedy), "anna")
    return apply(state, event)


def test_a_visited_site_is_not_withdrawn_without_a_remedy(world):
    state = fold(world.events()[:ONE_VISIT])
    with pytest.raises(UsageError, match=r"--remedy continue .* --remedy mark"):
        changes.event_of(state, world.plan, Withdraw("ada"), "anna")


def test_to_continue_is_to_stand_where_the_study_stood_before_the_visit(world):
    state = withdrawn(fold(world.events()[:TWO_VISITS]), world.plan, "ada", Remedy.CONTINUE)
    before = fold(world.events()[:4])
    assert state.checkpoints == before.checkpoints
    assert state.evaluations == before.evaluations
    assert (state.visited, state.to_come, state.leased) == ((), ("ben", "cai"), 0)
    assert next_action(state) == MakeVisit(visit=1, site_id="ben", parent=world.ref(0), visited=())


def test_what_descends_and_what_was_dropped_is_listed(world):
    state = withdrawn(fold(world.events()[:TWO_VISITS]), world.plan, "ada", Remedy.CONTINUE)
    record = state.withdrawals["ada"]
    assert [part.name for part in record.dropped] == ["prompt.ada"]
    assert [(one.visit, one.site_id, one.digest) for one in record.descendants] == [
        (1, "ada", world.ref(1).digest),
        (2, "ben", world.ref(2).digest),
    ]


def test_a_visit_under_way_that_descends_is_dropped(world):
    leased = fold(world.events()[: ONE_VISIT + 1])
    for remedy in Remedy:
        assert not withdrawn(leased, world.plan, "ada", remedy).is_visiting


def test_to_mark_is_to_keep_the_checkpoints_without_the_sites_parts(world):
    state = withdrawn(fold(world.events()[:ONE_VISIT]), world.plan, "ada", Remedy.MARK)
    assert state.checkpoints == (world.ref(0), without(world.ref(1), ["ada"]))
    assert [part.name for part in state.checkpoint.parts] == ["denoiser", "segmenter"]
    assert (state.visited, state.lineage, state.marked) == (("ada",), (), {"ada"})
    assert next_action(state) == MakeVisit(
        visit=2, site_id="ben", parent=state.checkpoint, visited=()
    )
    with pytest.raises(UsageError, match="visited already"):
        changes.event_of(state, world.plan, Add("ada"), "anna")


def test_every_part_that_a_site_made_of_its_own_goes_with_it(world):
    names = ["decoder.ada", "decoder.ben", "encoder", "labeller.ada", "prompt.ada", "prompt.ben"]
    ref = ref_of(part_ref(name, name.encode()) for name in names)
    kept = [part.name for part in without(ref, ["ada"]).parts]
    assert kept == ["decoder.ben", "encoder", "prompt.ben"]


def test_the_row_under_way_goes_on_without_the_site(world):
    for remedy, due in (
        (Remedy.MARK, EvaluateAt),
        (Remedy.CONTINUE, MakeVisit),
    ):
        state = withdrawn(fold(world.events()[:6]), world.plan, "ada", remedy)
        action = next_action(state)
        assert isinstance(action, due)
        assert action.site_id == "ben"


@pytest.mark.parametrize("site_id", ["ada", "ben", "cai"])
def test_consent_may_be_taken_back_after_the_end(world, site_id):
    complete = fold(world.events())
    assert complete.is_complete
    kept = withdrawn(complete, world.plan, site_id, Remedy.MARK)
    assert kept.standing is Standing.COMPLETE
    assert f"prompt.{site_id}" not in {part.name for part in kept.checkpoint.parts}
    again = withdrawn(complete, world.plan, site_id, Remedy.CONTINUE)
    assert again.standing is Standing.RUNNING
    stopped = apply(fold(world.events()[:ONE_VISIT]), events.StudyStopped(by="anna"))
    assert withdrawn(stopped, world.plan, "ada", Remedy.CONTINUE).standing is Standing.STOPPED


def test_a_withdrawal_may_be_repeated_and_made_stricter(world):
    marked = withdrawn(fold(world.events()[:TWO_VISITS]), world.plan, "ada", Remedy.MARK)
    for remedy in (None, Remedy.MARK):
        assert changes.event_of(marked, world.plan, Withdraw("ada", remedy), "otto") is None
    strict = withdrawn(marked, world.plan, "ada", Remedy.CONTINUE)
    assert (strict.visited, strict.marked) == ((), frozenset())
    for remedy in (None, *Remedy):
        assert changes.event_of(strict, world.plan, Withdraw("ada", remedy), "otto") is None


def test_sites_that_were_withdrawn_in_between_do_not_come_again(world):
    state = withdrawn(fold(world.events()[:TWO_VISITS]), world.plan, "ben", Remedy.MARK)
    state = withdrawn(state, world.plan, "ada", Remedy.CONTINUE)
    assert (state.to_come, state.marked) == (("cai",), frozenset())
    assert set(state.withdrawals) == {"ada", "ben"}


def test_a_site_that_comes_back_with_a_new_consent_makes_a_new_visit(world):
    state = withdrawn(fold(world.events()[:ONE_VISIT]), world.plan, "ada", Remedy.CONTINUE)
    event = changes.event_of(state, world.plan, Add("ada"), "anna")
    state = apply(state, event)
    assert state.to_come == ("ben", "cai", "ada")
    assert not state.withdrawals


def test_nothing_else_changes_in_a_study_that_has_ended(world):
    stopped = apply(fold(world.events()[:ONE_VISIT]), events.StudyStopped(by="anna"))
    with pytest.raises(UsageError):
        changes.event_of(stopped, world.plan, Withdraw("ben"), "anna")
    assert changes.event_of(stopped, world.plan, Stop(), "anna") is None
    with pytest.raises(JournalError):
        apply(stopped, events.SiteWithdrawn(site_id="ben", by="anna"))
