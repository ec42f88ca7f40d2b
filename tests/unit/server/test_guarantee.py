"""The coordinator takes a visit's guarantee only where the plan gives the same."""

import json
from dataclasses import replace

import pytest

from wardround.server import acceptance, events
from wardround.server.state import MakeVisit
from wardround.shared import plan as plans
from wardround.shared.errors import JournalError, WireError
from wardround.shared.formal_dp import guarantee_of
from wardround.shared.messages import Guarantee


@pytest.fixture
def private(tiny_plan) -> plans.StudyPlan:
    content = tiny_plan.model_dump(mode="json")
    content["denoiser"]["mode"] = "frozen"
    content["privacy"]["dp"] = True
    return plans.parse(content, origin="test")


def a_visit(world, visited=("ada",)) -> MakeVisit:
    return MakeVisit(visit=2, site_id="ben", parent=world.ref(1), visited=visited)


def test_the_guarantee_of_the_plan_is_accepted(world, private):
    report = replace(world.report(2), guarantee=guarantee_of(private, ("ada",)))
    acceptance.expect_guarantee(private, a_visit(world), report)
    acceptance.expect_guarantee(private, a_visit(world, visited=()), world.report(1))


@pytest.mark.parametrize(
    "told", [None, Guarantee(epsilon=1.0, delta=1e-5), Guarantee(epsilon=3.99559, delta=1e-6)]
)
def test_another_guarantee_than_the_plans_is_refused(world, private, told):
    with pytest.raises(WireError, match=r"the plan asks for \(epsilon 3\.99559 and"):
        acceptance.expect_guarantee(
            private, a_visit(world), replace(world.report(2), guarantee=told)
        )


def test_a_guarantee_that_the_plan_does_not_give_is_refused(world, tiny_plan):
    report = replace(world.report(2), guarantee=Guarantee(epsilon=4.0, delta=1e-5))
    with pytest.raises(WireError, match=r"the plan asks for \(none"):
        acceptance.expect_guarantee(tiny_plan, a_visit(world), report)


def test_the_journal_keeps_the_guarantee_and_writes_none_where_there_is_none(world):
    plain = events.VisitCommitted(checkpoint=world.ref(1), report=world.report(1))
    assert "guarantee" not in events.to_json(plain)["report"]
    told = replace(world.report(1), guarantee=Guarantee(epsilon=4.0, delta=1e-5))
    content = json.loads(json.dumps(events.to_json(replace(plain, report=told))))
    assert content["report"]["guarantee"] == {"epsilon": 4.0, "delta": 1e-5}
    assert events.from_json(content).report == told
    content["report"]["guarantee"]["epsilon"] = -1
    with pytest.raises(JournalError):
        events.from_json(content)
