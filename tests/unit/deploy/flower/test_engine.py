"""Orders out, results in, whatever Flower loses on the way."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="the Flower engine needs flwr: pip install 'wardround[flower]'")

from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from local_grid import NOT_TAKEN, RESTARTED, LocalGrid
from tiny_site import GENESIS, MANIFEST, TinySite
from wardround.deploy.flower.client_app import client_app
from wardround.deploy.flower.engine import ERRORS, FlowerEngine, registered_nodes
from wardround.deploy.flower.records import unpack_order
from wardround.deploy.in_process import open_study
from wardround.server.loop import run
from wardround.shared import codec, errors
from wardround.shared.errors import (
    DataError,
    EgressRefused,
    IdentityError,
    NotApproved,
    NotPermitted,
    WardroundError,
    WireError,
)
from wardround.shared.messages import Refusal, RefusalReason
from wardround.shared.plan import Absence
from wardround.shared.study_api import Standing


class Federation:
    """A study of three tiny sites over a local grid."""

    def __init__(self, folder: Path, plan, mishaps=()) -> None:
        self.sites = {name: TinySite(plan, name, folder / name) for name in plan.sites}
        apps = {name: self._app(name) for name in plan.sites}
        self.grid = LocalGrid(apps, mishaps)
        self.slept: list[float] = []
        self.plan, self.refusing = plan, dict[str, RefusalReason]()
        self.on_sleep = lambda: None
        self.clock = lambda: sum(self.slept)
        self._study = (folder / "study", plan, MANIFEST, GENESIS)

    def _app(self, name: str) -> ClientApp:
        @contextmanager
        def open_site(context, order, tell):
            if reason := self.refusing.get(name):
                digest = self.plan.digest()
                refusal = Refusal(site_id=name, plan_digest=digest, reason=reason)
                tell(codec.encode(refusal))
                raise NotApproved("doe_jane.png")
            yield self.sites[name]

        return client_app(open_site)

    def run(self):
        with open_study(*self._study, resume=True) as relay:
            nodes = registered_nodes(self.grid)
            engine = FlowerEngine(self.grid, relay, nodes, sleep=self._sleep, clock=self.clock)
            return run(relay, engine)

    def _sleep(self, pause_s: float) -> None:
        self.slept.append(pause_s)
        self.on_sleep()


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def federation(tmp_path: Path, tiny_plan) -> Federation:
    return Federation(tmp_path, tiny_plan)


def test_a_visit_is_a_train_message_and_brings_every_part_once(federation: Federation) -> None:
    state = federation.run()
    visits = [m for m in federation.grid.sent if m.metadata.message_type == "train"]
    assert [message.metadata.group_id for message in visits] == ["1", "2", "3"]
    for message, parent in zip(visits, state.checkpoints, strict=False):
        assert set(unpack_order(message.content).parts) == {p.digest for p in parent.parts}


def test_an_evaluation_brings_the_segmenter_alone(federation: Federation) -> None:
    federation.run()
    evaluations = [m for m in federation.grid.sent if m.metadata.message_type == "evaluate"]
    assert len(evaluations) == 12
    assert {len(unpack_order(message.content).parts) for message in evaluations} == {1}


def test_a_site_may_take_a_month(federation: Federation) -> None:
    federation.run()
    assert {message.metadata.ttl for message in federation.grid.sent} == {30 * 24 * 3600.0}


@pytest.mark.parametrize(
    "mishap",
    [
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
        ErrorCode.NODE_UNAVAILABLE,
        ErrorCode.CLIENT_APP_CRASHED,
    ],
)
def test_what_flower_loses_is_sent_again_as_the_same_order(
    tmp_path: Path, tiny_plan, federation: Federation, mishap: int
) -> None:
    (tmp_path / "other").mkdir()
    lossy = Federation(tmp_path / "other", tiny_plan, [None, None, None, mishap, mishap])
    assert lossy.run().checkpoints == federation.run().checkpoints
    orders = [unpack_order(message.content).order for message in lossy.grid.sent]
    assert orders[3] == orders[4] == orders[5]
    assert len(orders) == 15 + 2
    assert lossy.slept == [1.0, 2.0]


def test_the_pause_before_an_order_is_sent_again_grows_to_half_a_minute(
    tmp_path: Path, tiny_plan
) -> None:
    lossy = Federation(tmp_path, tiny_plan, [NOT_TAKEN] * 7)
    assert lossy.run().is_complete
    assert lossy.slept == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_an_order_is_sent_again_where_a_supernode_is_back_before_it_was_missed(
    tmp_path: Path, tiny_plan, federation: Federation
) -> None:
    (tmp_path / "other").mkdir()
    lossy = Federation(tmp_path / "other", tiny_plan, [None, None, None, RESTARTED])
    assert lossy.run().checkpoints == federation.run().checkpoints
    orders = [unpack_order(message.content).order for message in lossy.grid.sent]
    assert orders[3] == orders[4]
    assert len(orders) == 15 + 1


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (ErrorCode.INVALID_FAB, "the bundle of this run is not on its list"),
        (ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "error 2 of Flower"),
    ],
)
def test_what_a_site_refuses_is_not_sent_again(
    tmp_path: Path, tiny_plan, code: int, why: str
) -> None:
    refusing = Federation(tmp_path, tiny_plan, [code])
    with pytest.raises(WireError, match=why) as caught:
        refusing.run()
    assert "site 'ada'" in str(caught.value)
    assert "lost" not in str(caught.value), "a reason from outside is not repeated"
    assert len(refusing.grid.sent) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DataError("doe_jane.png is torn"), DataError),
        (EgressRefused("doe_jane.png"), EgressRefused),
        (FileNotFoundError("doe_jane.png"), WardroundError),
    ],
)
def test_an_error_at_a_site_arrives_as_its_class_alone(
    federation: Federation, error: Exception, kind: type[WardroundError]
) -> None:
    def fail(order, link):
        raise error

    federation.sites["ada"].evaluate = fail
    with pytest.raises(kind, match=f"status {kind.exit_status}") as caught:
        federation.run()
    assert type(caught.value) is kind
    (message,) = federation.grid.sent
    reply = federation.grid.apps["ada"](message, None)
    assert b"doe_jane" not in b"".join(r.deflate() for r in reply.content.values())


def test_every_class_of_errors_can_arrive() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert {kind.exit_status for kind in kinds} == set(ERRORS)
    assert all(ERRORS[status].exit_status == status for status in ERRORS)


def test_a_site_that_ends_without_a_report_is_an_error(federation: Federation) -> None:
    federation.sites["ada"].evaluate = lambda order, link: None
    with pytest.raises(WireError, match="status 7"):
        federation.run()


def test_the_answer_to_another_order_is_refused(federation: Federation) -> None:
    app = federation.grid.apps["ada"]
    answers = []

    def first_answer_again(message, context):
        answers.append(app(message, context))
        return answers[0]

    federation.grid.apps = federation.grid.apps | {"ada": first_answer_again}
    with pytest.raises(WireError, match="answered another order"):
        federation.run()


def test_a_site_that_is_away_is_waited_for(federation: Federation) -> None:
    names, federation.grid.names = federation.grid.names, []

    def come_back() -> None:
        if len(federation.slept) == 6:
            federation.grid.names = names

    federation.on_sleep = come_back
    assert federation.run().is_complete
    assert federation.slept == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]


def absent_site(folder: Path, plan, **policy) -> Federation:
    """A study whose site ben has no SuperNode."""
    made = Federation(folder, plan.model_copy(update={"absence": Absence(**policy)}))
    made.grid.names = ["ada", "cai"]
    return made


def test_a_site_without_a_supernode_is_skipped_where_the_plan_says_so(
    tmp_path: Path, tiny_plan
) -> None:
    (tmp_path / "other").mkdir()
    without_ben = tiny_plan.model_copy(update={"sites": ("ada", "cai")})
    whole = Federation(tmp_path / "other", without_ben).run()
    federation = absent_site(tmp_path, tiny_plan, policy="skip", after_s=60)
    state = federation.run()
    assert (state.is_complete, state.visited) == (True, ("ada", "cai"))
    assert state.skipped == {"ben": None}
    assert state.checkpoints == whole.checkpoints
    assert state.missed == {(visit, "ben") for visit in range(3)}
    assert sum(federation.slept) < 60 + 3 * 31, "who is skipped is not waited for as long again"


def test_a_study_is_stopped_where_the_plan_says_so(tmp_path: Path, tiny_plan) -> None:
    federation = absent_site(tmp_path, tiny_plan, sites={"ben": "stop"}, after_s=60)
    state = federation.run()
    assert state.standing is Standing.STOPPED
    assert 60 <= sum(federation.slept) < 62


def test_a_site_that_is_to_be_waited_for_may_be_away_for_days(tmp_path: Path, tiny_plan) -> None:
    federation = absent_site(tmp_path, tiny_plan)
    federation.clock = lambda: 24 * 3600.0 * len(federation.slept)  # each look takes a day

    def come_back() -> None:
        if len(federation.slept) == 7:
            federation.grid.names = ["ada", "ben", "cai"]

    federation.on_sleep = come_back
    state = federation.run()
    assert state.is_complete
    assert not state.skipped


def test_a_name_that_two_nodes_have_is_nobodys(federation: Federation) -> None:
    federation.grid.names = ["ada", "ada", "ben", "cai"]
    with pytest.raises(IdentityError, match="2 SuperNodes are registered as 'ada'"):
        federation.run()


def test_a_site_that_refuses_is_skipped_at_once_where_the_plan_says_so(
    tmp_path: Path, tiny_plan
) -> None:
    plan = tiny_plan.model_copy(update={"absence": Absence(policy="skip", after_s=60)})
    federation = Federation(tmp_path, plan)
    federation.refusing["ben"] = RefusalReason.NOT_APPROVED
    state = federation.run()
    assert (state.is_complete, state.visited) == (True, ("ada", "cai"))
    assert state.refused == {"ben": RefusalReason.NOT_APPROVED}
    assert federation.slept == []


def test_a_site_that_refuses_and_is_waited_for_ends_the_run_and_may_come_back(
    tmp_path: Path, tiny_plan
) -> None:
    federation = Federation(tmp_path, tiny_plan)
    federation.refusing["ben"] = RefusalReason.BUDGET_SPENT
    with pytest.raises(NotPermitted, match=f"status {NotPermitted.exit_status}") as caught:
        federation.run()
    assert "doe_jane" not in str(caught.value)
    del federation.refusing["ben"]
    state = federation.run()
    assert state.is_complete
    assert not state.refused


def test_a_refusal_in_the_name_of_another_site_is_no_refusal(tmp_path: Path, tiny_plan) -> None:
    federation = Federation(tmp_path, tiny_plan)
    ben = Refusal(site_id="ben", plan_digest=tiny_plan.digest(), reason=RefusalReason.NOT_APPROVED)

    @contextmanager
    def open_site(context, order, tell):
        tell(codec.encode(ben))
        raise NotApproved("no")
        yield

    federation.grid.apps = federation.grid.apps | {"ada": client_app(open_site)}
    with pytest.raises(WireError, match="site 'ada' told of a refusal by 'ben'"):
        federation.run()
