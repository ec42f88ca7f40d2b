from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from wardround.server import events
from wardround.server.journal import Journal, read_events
from wardround.server.relay import Relay
from wardround.server.store import ArtefactStore
from wardround.shared import codec
from wardround.shared.checkpoint import chunks_of
from wardround.shared.errors import CheckpointError, JournalError, WireError
from wardround.shared.messages import Phase, Progress
from wardround.shared.trail import Trail


@pytest.fixture
def relay(world, tmp_path):
    """A relay that waits for the first visit, of site ada."""
    relay = world.relay(tmp_path)
    _evaluate_row(relay, world, 0)
    relay.next_order()
    return relay


def _trail(tmp_path):
    return Trail(tmp_path / "audit", holder="wardround://coordinator/coordinator")


def _evaluate_row(relay, world, visit):
    for site_id in world.sites:
        relay.next_order()
        relay.evaluated(site_id, codec.encode(world.evaluation(visit, site_id)))


def _deliver(relay, world, visit, *, skip=(), sender=None, **changed):
    upload = world.upload(visit, **changed)
    for name, data in world.parts(visit, **changed).items():
        if name not in skip:
            relay.deliver(sender or upload.site_id, codec.encode(upload), name, chunks_of(data))
    return codec.encode(upload)


def _commit(relay, world, visit):
    upload = _deliver(relay, world, visit)
    relay.commit(world.sites[visit - 1], codec.encode(world.report(visit)), upload)


def _journal(tmp_path):
    return list(read_events(tmp_path / "journal"))


def test_a_whole_study_journals_every_event_once(world, tmp_path):
    relay = world.relay(tmp_path)
    for visit in range(4):
        if visit:
            relay.next_order()
            _commit(relay, world, visit)
        _evaluate_row(relay, world, visit)
    assert relay.next_order() is None
    assert relay.next_order() is None
    assert _journal(tmp_path) == world.events()
    assert relay.state.results() == ((0.25,) * 3,) * 4


def test_orders_say_what_is_to_be_done(world, tmp_path):
    relay = world.relay(tmp_path)
    first = relay.next_order()
    order = codec.decode_evaluation_order(first.data)
    assert (first.kind, first.site_id, first.visit) == ("evaluation", "ada", 0)
    assert (order.site_id, order.visit, order.checkpoint) == ("ada", 0, world.ref(0))
    _evaluate_row(relay, world, 0)
    second = relay.next_order()
    visit = codec.decode_visit_order(second.data)
    assert (second.kind, second.site_id, second.visit) == ("visit", "ada", 1)
    assert (visit.parent, visit.visited) == (world.ref(0), ())
    assert (visit.study_id, visit.plan_digest) == ("tiny", world.plan.digest())


def test_asking_again_gives_the_same_order_and_journals_nothing_more(relay, tmp_path):
    before = _journal(tmp_path)
    assert relay.next_order() == relay.next_order()
    assert _journal(tmp_path) == before


def test_a_site_may_fetch_the_checkpoint_of_its_order_alone(relay, world):
    part = world.ref(0).parts[0]
    assert b"".join(relay.fetch("ada", part)) == world.parts(0)[part.name]
    with pytest.raises(WireError, match="not of an order of its own"):
        relay.fetch("ben", part)
    with pytest.raises(WireError, match="not of an order of its own"):
        relay.fetch("ada", replace(part, digest="0" * 64))


def test_progress_reaches_who_watches_and_not_the_journal(world, tmp_path):
    seen = []
    with Journal(tmp_path / "journal") as journal:
        relay = Relay(journal, ArtefactStore(tmp_path), _trail(tmp_path), on_progress=seen.append)
        relay.create_study(world.plan, world.manifest, world.parts(0))
        progress = Progress(visit=0, site_id="ada", phase=Phase.EVALUATE, step=1, total=2)
        relay.progress("ada", codec.encode(progress))
        assert seen == [progress]
        assert len(journal.events) == 1
        for sender, other in (("ben", progress), ("ada", replace(progress, visit=1))):
            with pytest.raises(WireError, match="due is site 'ada', visit 0"):
                relay.progress(sender, codec.encode(other))


def test_only_the_site_whose_turn_it_is_may_deliver_and_commit(relay, world, tmp_path):
    before = _journal(tmp_path)
    upload = codec.encode(world.upload(1))
    with pytest.raises(WireError, match="site 'ben' sent a CheckpointUpload of site 'ada'"):
        relay.deliver("ben", upload, "segmenter", iter([]))
    with pytest.raises(WireError, match="site 'ben' sent a VisitReport of site 'ada'"):
        relay.commit("ben", codec.encode(world.report(1)), upload)
    with pytest.raises(WireError, match="due is site 'ada', visit 1"):
        relay.commit("ben", codec.encode(world.report(2)), codec.encode(world.upload(2)))
    assert _journal(tmp_path) == before


def test_a_commit_before_every_part_is_there_is_refused(relay, world, tmp_path):
    upload = _deliver(relay, world, 1, skip=("denoiser",))
    with pytest.raises(CheckpointError, match="'denoiser' was announced and not delivered"):
        relay.commit("ada", codec.encode(world.report(1)), upload)
    assert relay.state.num_visits == 0
    relay.deliver("ada", upload, "denoiser", chunks_of(world.parts(1)["denoiser"]))
    relay.commit("ada", codec.encode(world.report(1)), upload)
    assert relay.state.num_visits == 1


def test_a_part_that_did_not_change_need_not_be_delivered(relay, world):
    denoiser = world.parts(0)["denoiser"]
    upload = _deliver(relay, world, 1, skip=("denoiser",), denoiser=denoiser)
    relay.commit("ada", codec.encode(world.report(1)), upload)
    assert relay.state.checkpoint == world.ref(1, denoiser=denoiser)


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({"w": np.full((2, 2), np.nan, np.float32)}, "not finite"),
        ({"w": np.zeros((2, 3), np.float32)}, r"F32 \[2, 3\], expected F32 \[2, 2\]"),
        ({"w": np.zeros((2, 2), np.float64)}, "F64"),
        ({"v": np.zeros((2, 2), np.float32)}, "missing 'w'; unexpected 'v'"),
        (
            {"w": np.zeros((2, 2), np.float32), "image": np.zeros(4, np.float32)},
            "unexpected 'image'",
        ),
    ],
)
def test_a_part_that_is_not_the_manifests_is_refused_and_not_kept(
    relay, world, tmp_path, tensors, fault
):
    files = set(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match=fault):
        _deliver(relay, world, 1, segmenter=save(tensors))
    assert {path for path in tmp_path.rglob("*") if path.is_file()} <= files


def test_bytes_that_do_not_give_the_announced_digest_are_refused(relay, world):
    upload = codec.encode(world.upload(1))
    with pytest.raises(CheckpointError, match="Send the part again"):
        relay.deliver("ada", upload, "segmenter", chunks_of(world.parts(2)["segmenter"]))


def test_a_part_delivered_under_one_name_does_not_pass_under_another(relay, world):
    prompt = world.parts(1)["prompt.ada"]
    upload = _deliver(relay, world, 1, skip=("denoiser",), denoiser=prompt)
    with pytest.raises(CheckpointError, match="part 'denoiser' does not hold the manifest's"):
        relay.commit("ada", codec.encode(world.report(1)), upload)


def test_a_part_that_the_announcement_does_not_list_is_refused(relay, world):
    with pytest.raises(WireError, match="'thumbnail'"):
        relay.deliver("ada", codec.encode(world.upload(1)), "thumbnail", iter([]))


def test_a_checkpoint_with_a_missing_or_an_additional_part_is_refused(relay, world):
    extra = replace(world.upload(1), checkpoint=world.ref(1, prompt_zoe=b"x"))
    with pytest.raises(CheckpointError, match=r"unexpected 'prompt\.zoe'"):
        relay.deliver("ada", codec.encode(extra), "prompt.zoe", iter([b"x"]))
    none = replace(world.upload(1), checkpoint=world.ref(0))
    with pytest.raises(CheckpointError, match=r"missing 'prompt\.ada'"):
        relay.commit("ada", codec.encode(world.report(1)), codec.encode(none))


def test_a_visit_may_not_change_the_prompt_of_another_site(relay, world):
    _commit(relay, world, 1)
    _evaluate_row(relay, world, 1)
    relay.next_order()
    changed = save({"tokens": np.full((1, 2), 9, np.float32)})
    with pytest.raises(CheckpointError, match="a part of another site"):
        _deliver(relay, world, 2, prompt_ada=changed)


def test_more_bytes_than_the_plan_allows_are_refused_unread(world, tmp_path):
    small = replace(
        world,
        plan=world.plan.model_copy(
            update={"release": world.plan.release.model_copy(update={"byte_budget": 100})}
        ),
    )
    relay = small.relay(tmp_path)
    _evaluate_row(relay, small, 0)
    relay.next_order()
    with pytest.raises(CheckpointError, match="allowed are 100"):
        _deliver(relay, small, 1)


def test_a_repeated_commit_is_the_same_commit(relay, world, tmp_path):
    _commit(relay, world, 1)
    before = _journal(tmp_path)
    _commit(relay, world, 1)
    slower = codec.encode(world.report(1, seconds=99.0))
    relay.commit("ada", slower, codec.encode(world.upload(1)))
    _evaluate_row(relay, world, 1)
    _commit(relay, world, 1)
    assert _journal(tmp_path)[: len(before)] == before
    assert relay.state.num_visits == 1


def test_a_second_commit_that_differs_is_refused(relay, world):
    _commit(relay, world, 1)
    upload = codec.encode(world.upload(1))
    with pytest.raises(WireError, match="second commit of visit 1"):
        relay.commit("ada", codec.encode(world.report(1, dice=0.75)), upload)
    other = codec.encode(world.upload(1, segmenter=world.parts(2)["segmenter"]))
    with pytest.raises(WireError, match="second checkpoint of visit 1"):
        relay.commit("ada", codec.encode(world.report(1)), other)


def test_a_repeated_evaluation_is_the_same_and_a_different_one_is_refused(world, tmp_path):
    relay = world.relay(tmp_path)
    report = world.evaluation(0, "ada")
    relay.evaluated("ada", codec.encode(report))
    relay.evaluated("ada", codec.encode(report))
    assert len(_journal(tmp_path)) == 2
    with pytest.raises(WireError, match="second evaluation of visit 0"):
        relay.evaluated("ada", codec.encode(replace(report, num_cases=5)))
    with pytest.raises(WireError, match="site 'ben' sent a EvaluationReport of site 'ada'"):
        relay.evaluated("ben", codec.encode(report))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"checkpoint_digest": "0" * 64}, "not asked to score"),
        ({"visit": 1}, "due is site 'ada', visit 0"),
        ({"num_cases": 1}, "must suppress"),
    ],
)
def test_an_evaluation_that_was_not_ordered_like_this_is_refused(world, tmp_path, change, fault):
    relay = world.relay(tmp_path)
    report = replace(world.evaluation(0, "ada"), **change)
    with pytest.raises(WireError, match=fault):
        relay.evaluated("ada", codec.encode(report))


def test_an_evaluation_of_other_classes_is_refused(world, tmp_path):
    relay = world.relay(tmp_path)
    report = world.evaluation(0, "ada")
    other = replace(report, classes=(replace(report.classes[0], class_name="tumour"),))
    with pytest.raises(WireError, match="tumour"):
        relay.evaluated("ada", codec.encode(other))


def test_a_share_of_folds_is_told_where_images_are_registered_and_there_alone(world, tmp_path):
    relay = world.relay(tmp_path)
    report = replace(world.evaluation(0, "ada"), folds=0.0)
    with pytest.raises(WireError, match=r"says how much is folded.*'segmentation'"):
        relay.evaluated("ada", codec.encode(report))


def test_a_registration_error_is_not_taken_where_nothing_is_registered(world, tmp_path):
    relay = world.relay(tmp_path)
    report = replace(world.evaluation(0, "ada"), tre_mm=1.5)
    with pytest.raises(WireError, match=r"tells a registration error.*'segmentation'"):
        relay.evaluated("ada", codec.encode(report))


def test_an_evaluation_on_other_cases_than_before_is_refused(relay, world):
    _commit(relay, world, 1)
    report = replace(world.evaluation(1, "ada"), data_digest="0" * 64)
    with pytest.raises(WireError, match="held-out cases of site 'ada'"):
        relay.evaluated("ada", codec.encode(report))


def test_a_visit_report_during_evaluation_is_refused(world, tmp_path):
    relay = world.relay(tmp_path)
    with pytest.raises(WireError):
        relay.commit("ada", codec.encode(world.report(1)), codec.encode(world.upload(1)))


def test_nothing_is_accepted_after_the_end(world, tmp_path):
    with Journal(tmp_path / "journal") as journal:
        for event in world.events():
            journal.append(event)
        relay = Relay(journal, ArtefactStore(tmp_path), _trail(tmp_path))
        assert relay.next_order() is None
        with pytest.raises(WireError, match="nothing of it is due"):
            relay.fetch("ada", world.ref(3).parts[0])


def test_a_starting_checkpoint_that_is_not_the_manifests_begins_no_study(world, tmp_path):
    with Journal(tmp_path / "journal") as journal:
        relay = Relay(journal, ArtefactStore(tmp_path), _trail(tmp_path))
        with pytest.raises(CheckpointError):
            relay.create_study(world.plan, world.manifest, world.parts(1))
        assert journal.events == ()
        assert not relay.has_study
        with pytest.raises(JournalError, match="holds no study"):
            relay.next_order()


def test_a_journal_takes_one_study_only(relay, world):
    with pytest.raises(JournalError, match="holds study 'tiny' already"):
        relay.create_study(world.plan, world.manifest, world.parts(0))


def test_the_plan_comes_back_from_the_journal(relay, world):
    assert relay.plan.digest() == world.plan.digest()
    assert isinstance(relay.state.plan, str)
    assert events.canonical({"b": 1, "a": [0.5]}) == '{"a":[0.5],"b":1}'
