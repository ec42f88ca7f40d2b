"""A site works for a plan while its own staff approve it, by digest."""

import pytest

from wardround.shared.errors import NotPermitted
from wardround.shared.trail import Trail
from wardround.site_client.privacy import approval


@pytest.fixture
def trail(tmp_path):
    return Trail(tmp_path / "audit", holder="wardround://site/ada")


def test_no_plan_is_approved_by_itself(trail, tiny_plan):
    with pytest.raises(NotPermitted, match="wardround plan approve"):
        approval.expect_approved(trail, tiny_plan)


def test_an_approval_names_digest_and_person_and_holds_for_this_plan_alone(trail, tiny_plan):
    approval.approve(trail, tiny_plan, "A. de Vries")
    approval.expect_approved(trail, tiny_plan)
    line = trail.lines()[-1]
    assert (line.kind, line.facts["plan"], line.facts["by"]) == (
        "approved",
        tiny_plan.digest(),
        "A. de Vries",
    )
    with pytest.raises(NotPermitted):
        approval.expect_approved(trail, tiny_plan.model_copy(update={"seed": 7}))


def test_a_revoked_plan_may_be_approved_again(trail, tiny_plan):
    with pytest.raises(NotPermitted):
        approval.revoke(trail, tiny_plan, "ben")
    approval.approve(trail, tiny_plan, "ada")
    approval.revoke(trail, tiny_plan, "ben")
    with pytest.raises(NotPermitted):
        approval.expect_approved(trail, tiny_plan)
    approval.approve(trail, tiny_plan, "cai")
    assert approval.approver(trail, tiny_plan) == "cai"


def test_a_simulation_approves_once(trail, tiny_plan):
    for _ in range(2):
        approval.approve_in_simulation(trail, tiny_plan)
    assert [line.kind for line in trail.lines()] == ["opened", "approved"]
    assert "simulation" in trail.lines()[-1].facts["by"]


@pytest.mark.parametrize("by", ["", "  ", "x" * 101])
def test_an_approval_without_a_name_is_none(trail, tiny_plan, by):
    with pytest.raises(NotPermitted, match="--by"):
        approval.approve(trail, tiny_plan, by)
