"""What every engine keeps: in-process, relay between machines, Flower.

The sites are tiny (those of tiny_site.py); relay, journal, store, codec and egress guard are the
real ones. Flower's `Grid` is the one of local_grid.py here; test_flower.py has real processes.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread

import numpy as np
import pytest
from safetensors.numpy import save

from study_state import digests, state_of
from tiny_site import GENESIS, MANIFEST, NUM_EVENTS, TinySite
from wardround.deploy.in_process import InProcessEngine, open_study
from wardround.deploy.study_client import StudyClient
from wardround.server.events import SiteEvaluated, StudyCreated, VisitCommitted, VisitLeased
from wardround.server.journal import read_events
from wardround.server.loop import run
from wardround.server.state import StudyState, fold
from wardround.server.study_folder import JOURNAL
from wardround.shared import codec
from wardround.shared.checkpoint import part_ref
from wardround.shared.connection import Connection
from wardround.shared.errors import CheckpointError, EgressRefused, WireError
from wardround.shared.identity import Credentials, Role, read_credentials
from wardround.shared.link import SiteGateway
from wardround.site_client.dial import work

COORDINATOR = """
import sys
from pathlib import Path
from wardround.server.coordinator import serve
from wardround.shared.identity import read_credentials
serve(Path(sys.argv[1]), read_credentials(Path(sys.argv[2])), "127.0.0.1:0", poll_s=0.05,
      on_listening=lambda port: print(port, flush=True))
"""


Sites = Mapping[str, SiteGateway]


@dataclass
class Study:
    """A study of tiny sites in a folder, to be carried on by an engine."""

    folder: Path
    plan: object
    authority: object
    progress: list[str] = field(default_factory=list)

    def site(self, site_id: str, plan=None):
        return TinySite(plan or self.plan, site_id, self.folder.parent / site_id)

    def sites(self, **others: SiteGateway) -> Sites:
        return {site_id: self.site(site_id) for site_id in self.plan.sites} | others

    def events(self) -> list[object]:
        return read_events(self.folder / JOURNAL)

    def tell(self, told) -> None:
        words = (told.visit, told.site_id, told.phase.value, told.step, told.total)
        self.progress.append(" ".join(str(word) for word in words))

    def open(self):
        return open_study(
            self.folder,
            self.plan,
            MANIFEST,
            GENESIS,
            resume=True,
            on_progress=self.tell,
        )


def in_process(study: Study, sites: Sites) -> StudyState:
    with study.open() as relay:
        return run(relay, InProcessEngine(sites, relay))


def flower(study: Study, sites: Sites) -> StudyState:
    from local_grid import LocalGrid
    from wardround.deploy.flower.client_app import client_app
    from wardround.deploy.flower.engine import FlowerEngine, registered_nodes

    def app_of(site: SiteGateway):
        @contextmanager
        def open_site(context, order, tell) -> Iterator[SiteGateway]:
            yield site

        return client_app(open_site)

    grid = LocalGrid({site_id: app_of(site) for site_id, site in sites.items()})
    with study.open() as relay:
        return run(relay, FlowerEngine(grid, relay, registered_nodes(grid)))


class _Over(Exception):
    """The test has ended, so a site waits for its coordinator no longer."""


def grpc(study: Study, sites: Sites) -> StudyState:
    """A coordinator in a process of its own, sites in threads; the first to fail ends it."""
    with study.open():
        pass
    hub = study.authority.issue(Role.COORDINATOR, "hub")
    words = [sys.executable, "-c", COORDINATOR, str(study.folder), str(hub)]
    own = {name: read_credentials(study.authority.issue(Role.SITE, name)) for name in sites}
    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    over = Event()

    def sleep(pause_s: float) -> None:
        if over.wait(pause_s):
            raise _Over

    def dial(site_id: str, site: SiteGateway, own: Credentials, address: str) -> None:
        plan = getattr(site, "plan", study.plan)
        try:
            with Connection(address, own, sleep=sleep) as connection:
                work(connection, own, site, site_id=site_id, plan=plan, manifest=MANIFEST)
        except BaseException as error:  # noqa: BLE001 - raised below
            ended.put(error)
        else:
            ended.put(None)

    def watch(address: str, operator: Credentials) -> None:
        with (
            contextlib.suppress(_Over),
            StudyClient(address, operator, study.plan.study_id, sleep=sleep) as client,
        ):
            for news in client.watch():
                if news.status.progress is not None:
                    study.tell(news.status.progress)

    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as coordinator:
        address = f"127.0.0.1:{int(coordinator.stdout.readline())}"
        threads = [
            Thread(target=dial, args=(site_id, site, own[site_id], address))
            for site_id, site in sites.items()
        ]
        operator = read_credentials(study.authority.issue(Role.OPERATOR, "anna"))
        threads.append(Thread(target=watch, args=(address, operator)))
        try:
            for thread in threads:
                thread.start()
            for _ in sites:
                if (error := ended.get()) is not None:
                    raise error
            coordinator.wait()
        finally:
            coordinator.kill()
            over.set()
            for thread in threads:
                thread.join()
    return state_of(study.folder)


ENGINES: dict[str, Callable[[Study, Sites], StudyState]] = {
    "in-process": in_process,
    "grpc": grpc,
    "flower": flower,
}


@pytest.fixture(params=["in-process", pytest.param("grpc", marks=pytest.mark.slow), "flower"])
def engine(request) -> Callable[[Study, Sites], StudyState]:
    if request.param == "flower" and find_spec("flwr") is None:
        pytest.skip("the Flower engine needs flwr: pip install 'wardround[flower]'")
    return ENGINES[request.param]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def study(tiny_plan, tmp_path: Path, authority) -> Study:
    return Study(tmp_path / "study", tiny_plan, authority)


@pytest.fixture
def expected(tiny_plan, tmp_path: Path, authority) -> list[str]:
    """The digests that the in-process engine gives, uncut."""
    whole = Study(tmp_path / "expected" / "study", tiny_plan, authority)
    whole.folder.parent.mkdir()
    return digests(in_process(whole, whole.sites()))


def test_a_study_ends_in_the_same_bytes(engine, study: Study, expected: list[str]) -> None:
    state = engine(study, study.sites())
    assert state.is_complete
    assert digests(state) == expected
    assert len(study.events()) == NUM_EVENTS


class _Stopping:
    """A site whose power goes off at one call of its visit, the first time."""

    def __init__(self, site, moment: str) -> None:
        self._site, self._moment, self.plan = site, moment, site.plan

    def visit(self, order, link):
        self._site.visit(order, _StoppingLink(link, self._moment))

    def evaluate(self, order, link):
        self._site.evaluate(order, link)


class _StoppingLink:
    def __init__(self, link, moment: str) -> None:
        self._link, self._moment = link, moment

    def __getattr__(self, name: str):
        if name == self._moment:
            raise _PowerCut
        return getattr(self._link, name)


class _PowerCut(BaseException):
    """No error that anybody could answer."""


@pytest.mark.parametrize("moment", ["fetch", "progress", "deliver", "commit"])
def test_a_study_goes_on_after_a_site_was_cut(
    engine, study: Study, expected: list[str], moment: str
) -> None:
    with pytest.raises(_PowerCut):
        engine(study, study.sites(ben=_Stopping(study.site("ben"), moment)))
    assert not fold(study.events()).is_complete
    assert digests(engine(study, study.sites())) == expected
    assert len(study.events()) == NUM_EVENTS


def test_a_finished_study_stays_as_it_is(engine, study: Study, expected: list[str]) -> None:
    in_process(study, study.sites())
    before = (study.folder / JOURNAL).read_bytes()
    assert digests(engine(study, study.sites())) == expected
    assert (study.folder / JOURNAL).read_bytes() == before


def test_a_site_that_approved_another_plan_does_nothing(engine, study: Study) -> None:
    other = study.plan.model_copy(update={"seed": 7})
    with pytest.raises((EgressRefused, WireError)):
        engine(study, {name: study.site(name, other) for name in study.plan.sites})
    assert [type(event) for event in study.events()] == [StudyCreated]


class _Everything:
    """An egress guard that lets everything out."""

    def begin(self, order, anchor) -> None:
        pass

    def release(self, message) -> bytes:
        return codec.encode(message)

    def release_part(self, name: str, data: bytes):
        return part_ref(name, data)


def test_a_checkpoint_with_an_additional_tensor_is_refused(engine, study: Study) -> None:
    site = study.site("ada")
    site.guard, train = _Everything(), site.train

    def train_and_add(parent):
        extra = {"w": np.ones(4, np.float32), "x": np.ones(4, np.float32)}
        return train(parent) | {"segmenter": save(extra)}

    site.train = train_and_add
    with pytest.raises(CheckpointError):
        engine(study, study.sites(ada=site))
    last = [type(event) for event in study.events() if not isinstance(event, SiteEvaluated)]
    assert last == [StudyCreated, VisitLeased]
    assert VisitCommitted not in last


class _Lingering:
    """A site that does not end its visit before somebody was told of its progress."""

    def __init__(self, site, told: list[str]) -> None:
        self._site, self._told, self.plan = site, told, site.plan

    def visit(self, order, link):
        self._site.visit(order, _LingeringLink(link, self._told))

    def evaluate(self, order, link):
        self._site.evaluate(order, link)


class _LingeringLink(_StoppingLink):
    def __init__(self, link, told: list[str]) -> None:
        super().__init__(link, "")
        self._told = told

    def commit(self, report, upload):
        while not self._told:
            time.sleep(0.02)
        self._link.commit(report, upload)


def test_progress_is_told(engine, study: Study) -> None:
    site = study.site("ada")
    if engine is grpc:  # with a heartbeat; of a visit that ends before the next one nothing is told
        site = _Lingering(site, study.progress)
    assert engine(study, study.sites(ada=site)).is_complete
    assert "1 ada segmenter 1 2" in study.progress
