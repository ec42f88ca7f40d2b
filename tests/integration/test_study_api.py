"""Operators look after a study that a real coordinator serves to sites over mutual TLS.

The coordinator is a process of its own, so that it can be killed; the sites are threads with the
arithmetic of tiny_site.py. Heartbeats are a second apart, so a site is absent after three.
"""

from pathlib import Path

import grpc
import pytest

import relay_calls as calls
from study_network import Slow, expected, network
from study_state import digests
from wardround.deploy.simulate import report_of
from wardround.deploy.study_client import StudyClient
from wardround.server import events
from wardround.shared.connection import Connection
from wardround.shared.errors import ConnectionLost, IdentityError, UsageError
from wardround.shared.identity import Role, read_credentials
from wardround.shared.plan import Absence
from wardround.shared.study_api import (
    Add,
    EventKind,
    Pause,
    Reorder,
    Resume,
    SiteStanding,
    Skip,
    Standing,
    Start,
    Stop,
    Withdraw,
)
from wardround.wire.v1 import study_pb2 as wire
from wardround.wire.v1 import study_pb2_grpc as wire_grpc

Code = grpc.StatusCode


@pytest.mark.parametrize("role", [Role.SITE, Role.EVALUATOR, Role.COORDINATOR])
def test_only_an_operator_may_call_the_study_api(
    tmp_path: Path, authority, tiny_plan, role: Role
) -> None:
    own = read_credentials(authority.issue(role, "ada"))
    with network(tmp_path, authority, tiny_plan) as net:
        with Connection(net.coordinator.address, own) as connection:
            stub = wire_grpc.StudyServiceStub(connection.channel)
            with calls.refused(Code.PERMISSION_DENIED, "it takes a certificate of operator"):
                stub.GetStatus(wire.GetStatusRequest(study_id="tiny"))
            with calls.refused(Code.PERMISSION_DENIED):
                list(stub.Watch(wire.WatchRequest(study_id="tiny")))
            with calls.refused(Code.PERMISSION_DENIED):
                stub.Change(wire.ChangeRequest(study_id="tiny", stop=wire.Stop()))
        with (
            StudyClient(net.coordinator.address, own, "tiny") as client,
            pytest.raises(IdentityError, match="may not look after a study"),
        ):
            client.change(Stop())
        assert len(net.history()) == 1


def test_another_study_a_change_of_no_kind_and_a_misspelt_site_are_refused(
    tmp_path: Path, authority, tiny_plan
) -> None:
    own = read_credentials(authority.issue(Role.OPERATOR, "anna"))
    with network(tmp_path, authority, tiny_plan) as net:
        with StudyClient(net.coordinator.address, own, "other") as client:
            for ask in (client.status, lambda: client.change(Stop()), lambda: list(client.watch())):
                with pytest.raises(UsageError, match="'other' is not served here, 'tiny' is"):
                    ask()
        with Connection(net.coordinator.address, own) as connection:
            stub = wire_grpc.StudyServiceStub(connection.channel)
            with calls.refused(Code.INVALID_ARGUMENT, "no known kind"):
                stub.Change(wire.ChangeRequest(study_id="tiny"))
            with calls.refused(Code.INVALID_ARGUMENT, "no name of a site"):
                stub.Change(wire.ChangeRequest(study_id="tiny", skip=wire.Skip(site_id="A/../b")))
        assert len(net.history()) == 1


def test_an_operator_of_an_unknown_authority_hears_so_at_once(
    tmp_path: Path, authority, stranger, tiny_plan
) -> None:
    folder = stranger.issue(Role.OPERATOR, "anna")
    trusted = authority.issue(Role.SITE, "ben") / "ca.crt"
    (folder / "ca.crt").write_bytes(trusted.read_bytes())
    own = read_credentials(folder)
    with network(tmp_path, authority, tiny_plan) as net:
        with (
            StudyClient(net.coordinator.address, own, "tiny") as client,
            pytest.raises(IdentityError, match="do not accept each other's certificates"),
        ):
            client.status()
        net.coordinator.kill()
        with (
            StudyClient(net.coordinator.address, own, "tiny") as client,
            pytest.raises(ConnectionLost),
        ):
            client.status()
        net.coordinator.start()


def test_a_study_on_hold_is_reordered_joined_and_started_to_the_bytes_of_that_order(
    tmp_path: Path, authority, tiny_plan
) -> None:
    plan = tiny_plan.model_copy(update={"late_sites": True})
    with network(tmp_path, authority, plan, is_on_hold=True) as net, net.operator() as operator:
        net.start("ada", "ben", "cai")
        assert operator.status()[0].standing is Standing.ON_HOLD
        operator.change(Reorder(("cai", "ada", "ben")))
        operator.change(Skip("ada"))
        status = operator.change(Add("zoe"))
        assert [site.site_id for site in status.sites] == ["cai", "ben", "zoe", "ada"]
        assert status.num_events == 4
        net.start("zoe")
        operator.change(Start())
        state = net.end()
    assert state.is_complete
    assert state.visited == ("cai", "ben", "zoe")
    assert digests(state) == expected(plan, tmp_path / "one", "cai", "ben", "zoe")
    # The skipped site was there, so it scored every checkpoint.
    assert None not in [cell for row in state.results() for cell in row]
    assert sorted(net.ended) == ["ada", "ben", "cai", "zoe"]


def test_every_change_outlives_a_coordinator_killed_right_after_it_and_is_not_doubled(
    tmp_path: Path, authority, tiny_plan
) -> None:
    plan = tiny_plan.model_copy(update={"late_sites": True})
    asked = [
        Start(),
        Pause(),
        Skip("ada"),
        Add("zoe"),
        Withdraw("zoe"),
        Reorder(("cai", "ben")),
        Resume(),
        Stop(),
    ]
    with network(tmp_path, authority, plan, is_on_hold=True) as net, net.operator() as operator:
        for number, change in enumerate(asked, start=2):
            before = operator.change(change)
            net.restart()
            again = operator.change(change)
            assert before.num_events == again.num_events == number
            assert before.sites == again.sites
    kinds = [type(event).__name__ for event in net.history()]
    assert kinds == [
        "StudyCreated",
        "StudyStarted",
        "StudyPaused",
        "SiteSkipped",
        "SiteAdded",
        "SiteWithdrawn",
        "SitesReordered",
        "StudyResumed",
        "StudyStopped",
    ]
    assert {event.by for event in net.history()[1:]} == {"anna"}


def test_a_pause_lets_the_visit_under_way_end_and_begins_nothing(
    tmp_path: Path, authority, tiny_plan
) -> None:
    slow = []
    with network(tmp_path, authority, tiny_plan) as net, net.operator() as operator:
        net.start("ada", around=lambda site: slow.append(Slow(site)) or slow[0])
        net.start("ben", "cai")
        assert slow[0].begun.wait(60)
        assert operator.change(Pause()).due.is_visit
        net.restart()  # the lease is of an earlier life, and the visit goes on all the same
        slow[0].go.set()
        net.wait_until(lambda state: state.num_visits == 1)
        with calls.dialled(net.coordinator.address, authority.issue(Role.SITE, "ada")) as stub:
            answer = stub.NextOrder(calls.wire.NextOrderRequest())
            assert answer.kind == calls.wire.ORDER_KIND_NONE
        assert net.state().num_rows == 1
        operator.change(Resume())
        state = net.end()
    assert digests(state) == expected(tiny_plan, tmp_path / "one", "ada", "ben", "cai")


@pytest.mark.parametrize("change", [Skip("ada"), Withdraw("ada"), Stop()])
def test_a_visit_under_way_is_dropped_and_its_site_ends_in_order(
    tmp_path: Path, authority, tiny_plan, change
) -> None:
    slow = []
    with network(tmp_path, authority, tiny_plan) as net, net.operator() as operator:
        net.start("ada", around=lambda site: slow.append(Slow(site)) or slow[0])
        net.start("ben", "cai")
        assert slow[0].begun.wait(60)
        operator.change(change)
        slow[0].go.set()  # it goes on to train, deliver and commit; nobody wants it
        state = net.end()
    assert "ada" not in state.visited
    assert sorted(net.ended) == ["ada", "ben", "cai"]
    if isinstance(change, Stop):
        assert (state.standing, state.num_visits) == (Standing.STOPPED, 0)
    else:
        assert digests(state) == expected(tiny_plan, tmp_path / "one", "ben", "cai")


def test_a_skipped_site_that_is_absent_holds_nobody_up_and_is_told_of_in_the_report(
    tmp_path: Path, authority, tiny_plan
) -> None:
    with network(tmp_path, authority, tiny_plan) as net, net.operator() as operator:
        net.start("ada", "cai")
        operator.change(Skip("ben"))
        state = net.end()
    assert state.is_complete
    report = report_of(tiny_plan, state, wall_seconds=None)
    assert report.status == "complete"
    assert report.engine == "grpc"
    assert report.sites == ("ada", "cai", "ben")
    assert [row[2] for row in report.matrix] == [None, None, None]
    assert [(out.site, out.how, out.by) for out in report.left_out] == [("ben", "skipped", "anna")]
    assert digests(state) == expected(tiny_plan, tmp_path / "one", "ada", "cai")


@pytest.mark.parametrize("policy", ["skip", "stop"])
def test_the_plan_says_what_is_done_about_a_site_that_never_comes(
    tmp_path: Path, authority, tiny_plan, policy: str
) -> None:
    absence = Absence(policy="wait", after_s=1, sites={"ben": policy})
    plan = tiny_plan.model_copy(update={"absence": absence})
    with network(tmp_path, authority, plan) as net:
        net.start("ada", "cai")
        state = net.end()
    if policy == "stop":
        assert (state.standing, net.history()[-1]) == (
            Standing.STOPPED,
            events.StudyStopped(by=None),
        )
    else:
        assert state.skipped == {"ben": None}
        assert state.visited == ("ada", "cai")


def test_a_watcher_hears_every_event_once_also_of_a_coordinator_started_anew(
    tmp_path: Path, authority, tiny_plan
) -> None:
    heard, standings = [], []
    with network(tmp_path, authority, tiny_plan, is_on_hold=True) as net:
        with net.operator() as operator:
            for number, news in enumerate(operator.watch()):
                heard += news.events
                standings.append(news.status)
                if number == 0:
                    net.restart()
                if number == 1:  # heard again, so the study cannot end unheard
                    operator.change(Start())
                    net.start("ada", "ben", "cai")
        state = net.end()
    assert [event.number for event in heard] == list(range(1, len(net.history()) + 1))
    assert [event.kind.value for event in heard] == [type(e).__name__ for e in net.history()]
    assert heard[1].kind is EventKind.STUDY_STARTED
    assert heard[1].by == "anna"
    last = standings[-1]
    assert last.standing is Standing.COMPLETE
    assert last.checkpoint_digest == state.checkpoint.digest
    assert [(site.site_id, site.standing, site.visit) for site in last.sites] == [
        ("ada", SiteStanding.VISITED, 1),
        ("ben", SiteStanding.VISITED, 2),
        ("cai", SiteStanding.VISITED, 3),
    ]


def test_a_change_that_cannot_be_made_is_refused_with_its_reason(
    tmp_path: Path, authority, tiny_plan
) -> None:
    slow = []
    with network(tmp_path, authority, tiny_plan) as net, net.operator() as operator:
        net.start("ada", "cai")
        net.start("ben", around=lambda site: slow.append(Slow(site)) or slow[0])
        assert slow[0].begun.wait(60)
        before = len(net.history())
        for change, words in (
            (Skip("ada"), "visited already"),
            (Skip("zoe"), "takes no part"),
            (Add("zoe"), "late_sites = true"),
            (Reorder(("ben", "cai")), "Name each of them once: cai"),
        ):
            with pytest.raises(UsageError, match=words):
                operator.change(change)
        assert len(net.history()) == before
        slow[0].go.set()
        assert net.end().is_complete
