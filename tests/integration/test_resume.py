"""Kill the coordinator or a site anywhere, start again, and the study ends in the same bytes.

The sites are tiny (those of tiny_site.py): their "training" is arithmetic on a few numbers. Relay,
journal, store, codec and egress guard are the real ones.
"""

import itertools
import os
from dataclasses import replace

import pytest

from tiny_site import GENESIS, MANIFEST, NUM_EVENTS, TinySite
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.server.events import SiteEvaluated, VisitCommitted
from wardround.server.journal import Journal, read_events
from wardround.server.loop import run
from wardround.server.study_folder import CHECKPOINTS, JOURNAL
from wardround.shared import trail
from wardround.shared.checkpoint import Manifest
from wardround.shared.errors import JournalError

CALLS_OF_VISITS = (2 + 3 + 4) + 3 * (1 + 3 + 1)  # fetches; progress, three parts, commit
CALLS_OF_EVALUATIONS = 4 * 3 * (1 + 1)  # fetch, report


class _Cut(BaseException):
    """The power went off."""


class _CuttingGateway:
    """A gateway whose link breaks at a given call, before it reaches the relay or after."""

    def __init__(self, site, calls, *, at, after):
        self.site, self.calls, self.at, self.after = site, calls, at, after

    def visit(self, order, link):
        self.site.visit(order, _CuttingLink(link, self))

    def evaluate(self, order, link):
        self.site.evaluate(order, _CuttingLink(link, self))


class _CuttingLink:
    def __init__(self, link, gateway):
        self.link, self.gateway = link, gateway

    def _call(self, act, *arguments):
        number = next(self.gateway.calls)
        if number == self.gateway.at and not self.gateway.after:
            raise _Cut
        result = act(*arguments)
        if number == self.gateway.at:
            raise _Cut
        return result

    def trail_head(self):
        return self.link.trail_head()

    def fetch(self, part):
        return self._call(lambda: iter(list(self.link.fetch(part))))

    def progress(self, message):
        self._call(self.link.progress, message)

    def deliver(self, announcement, part_name, data):
        self._call(self.link.deliver, announcement, part_name, data)

    def commit(self, report, upload):
        self._call(self.link.commit, report, upload)

    def evaluated(self, report):
        self._call(self.link.evaluated, report)


def _run(plan, folder, *, resume=False, cut=None):
    sites = {site_id: TinySite(plan, site_id, folder.parent / site_id) for site_id in plan.sites}
    if cut is not None:
        at, after = cut
        calls = itertools.count(1)
        sites = {
            site_id: _CuttingGateway(site, calls, at=at, after=after)
            for site_id, site in sites.items()
        }
    with open_study(folder, plan, MANIFEST, GENESIS, resume=resume) as relay:
        return run(relay, InProcessEngine(sites, relay))


def _without_timings(folder):
    """The events of a study without what differs from run to run: timings, and trails' heads."""

    def stripped(event):
        match event:
            case VisitCommitted():
                return replace(event, report=replace(event.report, phase_seconds={}, trail=None))
            case SiteEvaluated():
                return replace(event, report=replace(event.report, trail=None))
            case _:
                return event

    return [stripped(event) for event in read_events(folder / JOURNAL)]


def _stored(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in (folder / CHECKPOINTS).rglob("*")
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """A cut kills a process here, not the machine, so what was written stays without fsync."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def whole(tiny_plan, tmp_path):
    """The folder of a study that was never cut."""
    folder = tmp_path / "whole" / "study"
    folder.parent.mkdir()
    assert _run(tiny_plan, folder).is_complete
    return folder


def _expect_same(folder, whole):
    assert _without_timings(folder) == _without_timings(whole)
    assert _stored(folder).items() >= _stored(whole).items()


def test_two_runs_give_the_same_bytes(tiny_plan, whole, tmp_path):
    _run(tiny_plan, tmp_path / "again")
    assert _without_timings(tmp_path / "again") == _without_timings(whole)
    assert _stored(tmp_path / "again") == _stored(whole)
    assert len(read_events(whole / JOURNAL)) == NUM_EVENTS


@pytest.mark.parametrize("torn", [b"", b'{"at":"2030-01-01T12:0'], ids=["clean", "torn"])
@pytest.mark.parametrize("num_events", range(NUM_EVENTS))
def test_a_study_cut_after_any_event_ends_the_same(
    tiny_plan, whole, tmp_path, monkeypatch, num_events, torn
):
    folder = tmp_path / "study"
    append = Journal.append

    def appends(journal, event):
        if len(journal.events) == num_events:
            raise _Cut
        append(journal, event)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", appends)
        with pytest.raises(_Cut):
            _run(tiny_plan, folder)
    assert len(read_events(folder / JOURNAL)) == num_events
    with (folder / JOURNAL).open("ab") as file:
        file.write(torn)
    _run(tiny_plan, folder, resume=True)
    _expect_same(folder, whole)


def _num_calls(plan, folder):
    calls = itertools.count(1)
    sites = {
        site_id: _CuttingGateway(
            TinySite(plan, site_id, folder.parent / site_id), calls, at=0, after=False
        )
        for site_id in plan.sites
    }
    with open_study(folder, plan, MANIFEST, GENESIS) as relay:
        run(relay, InProcessEngine(sites, relay))
    return next(calls) - 1


@pytest.mark.parametrize("after", [False, True], ids=["request lost", "answer lost"])
def test_a_study_cut_at_any_call_of_a_site_ends_the_same(tiny_plan, whole, tmp_path, after):
    num_calls = _num_calls(tiny_plan, tmp_path / "counted")
    assert num_calls == CALLS_OF_VISITS + CALLS_OF_EVALUATIONS
    for number in range(1, num_calls + 1):
        folder = tmp_path / str(number)
        with pytest.raises(_Cut):
            _run(tiny_plan, folder, cut=(number, after))
        _run(tiny_plan, folder, resume=True)
        _expect_same(folder, whole)


def test_a_study_cut_again_and_again_ends_the_same(tiny_plan, whole, tmp_path):
    folder = tmp_path / "study"
    cuts = 0
    while True:
        try:
            _run(tiny_plan, folder, resume=True, cut=(9, True))
        except _Cut:
            cuts += 1
        else:
            break
    assert cuts > 3
    _expect_same(folder, whole)


def test_a_finished_study_resumes_to_itself(tiny_plan, whole):
    before = (whole / JOURNAL).read_bytes()
    assert _run(tiny_plan, whole, resume=True).is_complete
    assert (whole / JOURNAL).read_bytes() == before


def test_a_study_that_is_there_is_not_overwritten(tiny_plan, whole):
    before = (whole / JOURNAL).read_bytes()
    with pytest.raises(JournalError, match="--resume"):
        _run(tiny_plan, whole)
    assert (whole / JOURNAL).read_bytes() == before


def test_a_study_does_not_go_on_with_another_plan(tiny_plan, whole):
    method = tiny_plan.method.model_copy(update={"name": "finetune"})
    other = tiny_plan.model_copy(update={"method": method, "seed": 7})
    with pytest.raises(JournalError) as caught:
        _run(other, whole, resume=True)
    assert 'method.name was "smd", is "finetune"; seed was 0, is 7' in str(caught.value)


def test_where_the_data_lie_does_not_matter_to_a_resumed_study(tiny_plan, whole):
    simulation = tiny_plan.simulation.model_copy(update={"data_root": "/elsewhere"})
    moved = tiny_plan.model_copy(update={"simulation": simulation})
    assert _run(moved, whole, resume=True).is_complete


def test_a_study_does_not_go_on_with_other_tensors(tiny_plan, whole):
    other = Manifest(parts={"segmenter": MANIFEST.parts["segmenter"]}, prompt=MANIFEST.prompt)
    with (
        pytest.raises(JournalError, match="other tensors"),
        open_study(whole, tiny_plan, other, GENESIS, resume=True),
    ):
        pass


def test_a_study_whose_last_checkpoint_is_gone_does_not_go_on(tiny_plan, whole):
    last = _last_segmenter(whole)
    (whole / CHECKPOINTS / "sha256" / last[:2] / last[2:]).unlink()
    with pytest.raises(JournalError, match="segmenter missing"):
        _run(tiny_plan, whole, resume=True)


def _last_segmenter(folder):
    commits = [e for e in read_events(folder / JOURNAL) if isinstance(e, VisitCommitted)]
    (part,) = (part for part in commits[-1].checkpoint.parts if part.name == "segmenter")
    return part.digest


def test_two_processes_cannot_work_on_one_study(tiny_plan, whole):
    with (
        open_study(whole, tiny_plan, MANIFEST, GENESIS, resume=True),
        pytest.raises(JournalError, match="in use"),
    ):
        _run(tiny_plan, whole, resume=True)


def test_the_audit_of_every_site_has_a_line_for_all_that_left(tiny_plan, whole):
    for site_id in tiny_plan.sites:
        reading = trail.read(whole.parent / site_id / "audit")
        assert reading.fault is None
        released = [line.facts["what"] for line in reading.lines if line.kind == "released"]
        assert released.count("EvaluationReport") == 4
        assert released.count("VisitReport") == 1
        assert released.count("part segmenter") == 1
