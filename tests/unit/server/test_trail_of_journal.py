"""The coordinator's trail signs every event of the journal, whenever a crash came."""

import hashlib
from dataclasses import replace

import pytest

from wardround.server.journal import Journal
from wardround.server.trail_of_journal import TrailOfJournal
from wardround.shared import codec
from wardround.shared import trail as trails
from wardround.shared.errors import TrailError
from wardround.shared.messages import Anchor
from wardround.shared.trail import Trail


def _trail(folder):
    return Trail(folder / "audit", holder="wardround://coordinator/coordinator")


def _told(folder):
    return [line for line in trails.read(folder / "audit").lines if line.kind == "journalled"]


@pytest.fixture
def journal(world, tmp_path):
    with Journal(tmp_path / "journal") as journal:
        for event in world.events():
            journal.append(event)
        yield journal


def test_every_event_has_a_line_with_the_check_sum_of_its_own(journal, tmp_path):
    TrailOfJournal(_trail(tmp_path), journal)
    told = _told(tmp_path)
    assert [line.facts["journal"] for line in told] == list(range(1, len(journal.events) + 1))
    assert [line.facts["check"] for line in told] == list(journal.checks)
    assert [line.facts["event"] for line in told] == [type(e).__name__ for e in journal.events]


def test_a_line_names_what_came_and_where_the_sites_trail_ended(world, tmp_path):
    evaluation = replace(world.evaluation(0, "ada"), trail=Anchor(seq=7, digest="d" * 64))
    with Journal(tmp_path / "journal") as journal:
        journal.append(world.events()[0])
        journal.append(replace(world.events()[1], report=evaluation))
        TrailOfJournal(_trail(tmp_path), journal)
    created, evaluated = _told(tmp_path)
    assert created.facts["study"] == world.plan.study_id
    assert created.facts["plan"] == world.plan.digest()
    facts = evaluated.facts
    assert (facts["visit"], facts["site_id"], facts["anchor"]) == (0, "ada", [7, "d" * 64])
    assert facts["report"] == hashlib.sha256(codec.encode(evaluation)).hexdigest()


@pytest.mark.parametrize("num_told", [0, 1, 5])
def test_events_that_a_crash_left_without_a_line_get_theirs(journal, tmp_path, num_told):
    trail = _trail(tmp_path)
    tell, calls = trail.append, iter(range(100))

    def cut(kind, facts):
        if next(calls) == num_told:
            raise KeyboardInterrupt
        return tell(kind, facts)

    trail.append = cut
    with pytest.raises(KeyboardInterrupt):
        TrailOfJournal(trail, journal)
    assert len(_told(tmp_path)) == num_told
    TrailOfJournal(_trail(tmp_path), journal)
    assert [line.facts["check"] for line in _told(tmp_path)] == list(journal.checks)


def test_a_journal_that_was_cut_off_or_made_anew_is_not_gone_on_with(journal, world, tmp_path):
    TrailOfJournal(_trail(tmp_path), journal)
    for number, happened in enumerate([world.events()[:-1], world.events()]):
        with Journal(tmp_path / f"other-{number}") as other:
            for event in happened:
                other.append(event)
            with pytest.raises(TrailError, match="restore it from a copy"):
                TrailOfJournal(_trail(tmp_path), other)
