"""A journal that a release has written is read and folded by every later one.

tests/golden/journals holds one folder for each release that changed the format. A golden journal is
never rewritten.
"""

import shutil

import pytest

from wardround.server.events import from_json, to_json
from wardround.server.journal import Journal, read_events
from wardround.server.state import fold
from wardround.shared.messages import Metric, RefusalReason
from wardround.shared.study_api import EventKind, Standing


@pytest.fixture
def golden(repository):
    return repository / "tests" / "golden" / "journals"


def test_the_journal_of_v0_1_ends_where_it_ended(golden):
    events = read_events(golden / "v0.1" / "two-sites.jsonl")
    state = fold(events)
    assert state is not None
    assert state.is_complete
    assert state.study_id == "golden"
    assert state.sites == ("ada", "ben")
    assert state.plan_digest == "a09b212f7791cacb65c3f28281276ad6ce02b0c3a1a8be628ab283647503f967"
    assert (
        state.manifest.digest()
        == "4a28dac1a090325a75dfd5d78254a4a23de4c87361a44b0d0297af4935a236d2"
    )
    assert (
        state.checkpoint.digest
        == "970108dac583a16945fce1648bb466395fef045142d13dccd68c7bc89e164d63"
    )
    assert [part.name for part in state.checkpoint.parts] == [
        "denoiser",
        "prompt.ada",
        "prompt.ben",
        "segmenter",
    ]
    assert state.results() == ((0.0, 0.125), (0.75, 0.25), (0.5, 0.875))
    assert state.visit_reports[1].metrics[Metric.DICE_AFTER] == 0.875
    assert state.evaluations[2, "ben"].num_cases is None


def test_the_journals_hold_every_kind_of_event(golden):
    kinds = {
        type(event).__name__ for path in golden.rglob("*.jsonl") for event in read_events(path)
    }
    assert kinds == {kind.value for kind in EventKind}


def test_the_journals_of_v0_2_end_where_they_ended(golden):
    whole = read_events(golden / "v0.2" / "every-change.jsonl")
    stopped = read_events(golden / "v0.2" / "stopped.jsonl")
    state = fold(whole)
    assert state is not None
    assert (state.engine, state.standing) == ("grpc", Standing.COMPLETE)
    assert state.sites == ("ada", "ben", "cai", "dan")
    assert state.visited == ("ada", "ben")
    assert (state.skipped, state.withdrawn) == ({"cai": None}, {"dan": "otto"})
    assert state.missed == {(1, "cai"), (2, "cai")}
    assert state.results() == (
        (0.0, 0.125, None, None),
        (0.75, 0.25, None, None),
        (0.5, 0.875, None, None),
    )
    assert (
        state.checkpoint.digest
        == "970108dac583a16945fce1648bb466395fef045142d13dccd68c7bc89e164d63"
    )
    ended = fold(stopped)
    assert ended is not None
    assert (ended.standing, ended.num_visits, ended.num_rows) == (Standing.STOPPED, 0, 1)


def test_the_journal_of_v0_3_knows_who_refuses(golden):
    state = fold(read_events(golden / "v0.3" / "refused.jsonl"))
    assert state is not None
    assert state.refused == {"cai": RefusalReason.AUDIT_FAILED}
    assert state.skipped == {"cai": None}


def test_every_golden_journal_is_whole_and_spelled_as_this_release_spells_it(golden, tmp_path):
    journals = sorted(golden.rglob("*.jsonl"))
    assert journals
    for number, path in enumerate(journals):
        events = read_events(path)
        assert [from_json(to_json(event)) for event in events] == list(events)
        copy = tmp_path / f"{number}.jsonl"
        shutil.copyfile(path, copy)
        with Journal(copy) as journal:
            assert journal.events == events
        assert copy.read_bytes() == path.read_bytes()
