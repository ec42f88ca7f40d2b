"""A site is withdrawn: nothing of its prompt stays, and the study is one in which it never was.

The sites' training is arithmetic, as in tiny_site.py; journal, store, relay and engines are real.
"""

from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.numpy import load

from study_network import Slow, expected, network
from study_state import digests
from tiny_site import GENESIS, MANIFEST, TinySite
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.server import study_folder
from wardround.server.events import SiteWithdrawn
from wardround.server.journal import read_events
from wardround.server.loop import run
from wardround.server.state import fold
from wardround.server.store import ArtefactStore
from wardround.shared.study_api import Remedy, SiteStanding, Standing, Withdraw


def in_process(sites, relay):
    return run(relay, InProcessEngine(sites, relay))


def over_flower(sites, relay):
    from local_grid import LocalGrid
    from wardround.deploy.flower.client_app import client_app
    from wardround.deploy.flower.engine import FlowerEngine, registered_nodes

    def app_of(site):
        @contextmanager
        def open_site(context, order, tell):
            yield site

        return client_app(open_site)

    grid = LocalGrid({name: app_of(site) for name, site in sites.items()})
    return run(relay, FlowerEngine(grid, relay, registered_nodes(grid)))


def sites_of(plan, folder: Path):
    return {name: TinySite(plan, name, folder / name) for name in plan.sites}


def finished(folder: Path, plan):
    """A whole study in `folder`; returns its sites and state."""
    folder.mkdir(exist_ok=True)
    sites = sites_of(plan, folder)
    with open_study(folder / "study", plan, MANIFEST, GENESIS) as relay:
        return sites, run(relay, InProcessEngine(sites, relay))


def contents_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def prompt_bytes(study: Path, state, site_id: str) -> list[bytes]:
    """The prompt's file and its bare numbers."""
    (part,) = (part for part in state.checkpoint.parts if part.name == f"prompt.{site_id}")
    data = ArtefactStore(study / study_folder.CHECKPOINTS).path(part.digest).read_bytes()
    return [data, load(data)["tokens"].tobytes()]


def others(state, site_id):
    return {cell: one.dice for cell, one in state.evaluations.items() if cell[1] != site_id}


@pytest.mark.parametrize("engine", [in_process, over_flower], ids=["in-process", "flower"])
@pytest.mark.parametrize("site_id", ["ada", "ben", "cai"])
def test_the_study_goes_on_as_one_in_which_the_site_never_took_part(
    tmp_path, tiny_plan, site_id, engine
):
    sites, before = finished(tmp_path / "a", tiny_plan)
    study = tmp_path / "a" / "study"
    searched = prompt_bytes(study, before, site_id)
    assert all(one in contents_of(study) for one in searched), "the search finds what is there"
    with study_folder.hold(study) as (relay, _):
        relay.change(Withdraw(site_id, Remedy.CONTINUE), "anna")
    assert not any(one in contents_of(study) for one in searched)
    with open_study(study, tiny_plan, MANIFEST, GENESIS, resume=True) as relay:
        state = engine(sites, relay)
        files = {path.name for path in (study / "checkpoints" / "sha256").glob("*/*")}
    left = tuple(name for name in tiny_plan.sites if name != site_id)
    never = tiny_plan.model_copy(update={"sites": left})
    _, without = finished(tmp_path / "b", never)
    assert state.is_complete
    assert state.checkpoints == without.checkpoints
    assert others(state, site_id) == others(without, site_id)
    assert state.plan_digest == tiny_plan.digest(), "the plan is never changed"
    kept = {part.digest[2:] for ref in state.checkpoints for part in ref.parts}
    assert files == kept
    assert not any(one in contents_of(study) for one in searched)


def test_marked_checkpoints_are_kept_without_the_sites_parts(tmp_path, tiny_plan):
    _, before = finished(tmp_path / "a", tiny_plan)
    study = tmp_path / "a" / "study"
    searched = prompt_bytes(study, before, "ben")
    with study_folder.hold(study) as (relay, store):
        relay.change(Withdraw("ben", Remedy.MARK), "anna")
        state = relay.state
        assert all(store.has(part) for ref in state.checkpoints for part in ref.parts)
    assert state.is_complete
    assert [part.name for part in state.checkpoint.parts] == [
        "denoiser",
        "prompt.ada",
        "prompt.cai",
        "segmenter",
    ]
    assert not any(one in contents_of(study) for one in searched)


def test_what_a_crash_left_is_removed_at_the_next_start(tmp_path, tiny_plan, monkeypatch):
    _, before = finished(tmp_path / "a", tiny_plan)
    study = tmp_path / "a" / "study"
    searched = prompt_bytes(study, before, "ada")

    def cut(*_):
        raise KeyboardInterrupt  # after the event, before anything was removed

    with monkeypatch.context() as crash, study_folder.hold(study) as (relay, _):
        crash.setattr(ArtefactStore, "keep_only", cut)
        with pytest.raises(KeyboardInterrupt):
            relay.change(Withdraw("ada", Remedy.CONTINUE), "anna")
    assert isinstance(read_events(study / study_folder.JOURNAL)[-1], SiteWithdrawn)
    assert all(one in contents_of(study) for one in searched)
    partial = study / "checkpoints" / "partial"
    partial.mkdir(exist_ok=True)
    (partial / ("0" * 64)).write_bytes(searched[0])
    with study_folder.hold(study):
        pass
    assert not any(one in contents_of(study) for one in searched)


def test_a_site_is_withdrawn_while_another_makes_its_visit(tmp_path, authority, tiny_plan):
    slow: list = []

    def held(site):
        slow.append(Slow(site))
        return slow[0]

    with network(tmp_path, authority, tiny_plan) as served, served.operator() as operator:
        served.start("ada", "cai")
        served.start("ben", around=held)
        assert slow[0].begun.wait(60)
        with_ada = served.state()
        searched = prompt_bytes(served.study, with_ada, "ada")
        status = operator.change(Withdraw("ada", Remedy.CONTINUE))
        assert not any(one in contents_of(served.study) for one in searched)
        (record,) = status.withdrawals
        assert [part.name for part in record.dropped] == ["prompt.ada"]
        assert [(one.visit, one.site_id) for one in record.descendants] == [(1, "ada")]
        assert {site.site_id: site.standing for site in status.sites}["ada"] is (
            SiteStanding.WITHDRAWN
        )
        assert operator.change(Withdraw("ada")).num_events == status.num_events
        slow[0].go.set()
        state = served.end()
    assert state.standing is Standing.COMPLETE
    assert digests(state) == expected(tiny_plan, tmp_path / "never", "ben", "cai")
    assert not any(one in contents_of(tmp_path / "study") for one in searched)
    assert fold(read_events(tmp_path / "study" / study_folder.JOURNAL)) == state
