"""What a site has spent: each release once, and no visit past the budget."""

import pytest

from wardround.shared import plan as plans
from wardround.shared.accountant import epsilon_of
from wardround.shared.checkpoint import part_ref, ref_of
from wardround.shared.errors import BudgetSpent, NotPermitted
from wardround.shared.messages import VisitOrder
from wardround.shared.trail import Trail
from wardround.shared.trail_lines import LineKind
from wardround.site_client.privacy.ledger import Ledger, release_of
from wardround.site_client.privacy.policy import SitePolicy


@pytest.fixture
def plan(tiny_plan) -> plans.StudyPlan:
    content = tiny_plan.model_dump(mode="json")
    content["denoiser"] |= {"mode": "frozen", "steps": 400}
    content["privacy"] |= {"dp": True, "epsilon": 4.0, "epsilon_budget": 8.0}
    return plans.parse(content, origin="test")


@pytest.fixture
def trail(tmp_path) -> Trail:
    return Trail(tmp_path / "audit", holder="wardround://site/ben")


def an_order(plan: plans.StudyPlan, parent: bytes, visited: tuple[str, ...] = ("ada",)):
    parts = [part_ref("segmenter", b"s"), part_ref("denoiser", parent)]
    return VisitOrder(
        study_id=plan.study_id,
        plan_digest=plan.digest(),
        visit=len(visited) + 1,
        site_id="ben",
        parent=ref_of(parts),
        visited=visited,
    )


def make(ledger: Ledger, plan: plans.StudyPlan, order: VisitOrder, prompt: str) -> None:
    """Make a visit as far as the ledger is concerned."""
    ledger.expect_room(plan, order)
    ledger.charge(plan, order, prompt)


def spent(ledger: Ledger, plan: plans.StudyPlan) -> float:
    return epsilon_of([entry.spending for entry in ledger.entries()], plan.privacy.delta)


def test_spending_past_the_budget_is_refused_at_the_right_visit(plan, trail):
    ledger = Ledger(trail, SitePolicy())
    # One visit spends 4, two 5.9, three 7.5; four would spend 8.9 and may spend 8.
    for number in range(3):
        make(ledger, plan, an_order(plan, b"parent %d" % number), f"{number}" * 64)
    assert 7 < spent(ledger, plan) < 8
    with pytest.raises(BudgetSpent, match=r"would spend epsilon 8\.9.* allowed are 8;"):
        ledger.expect_room(plan, an_order(plan, b"parent 3"))
    assert len(ledger.entries()) == 3


def test_the_sites_policy_lowers_the_budget_and_cannot_raise_it(plan, trail):
    strict = Ledger(trail, SitePolicy(epsilon_budget=5.0))
    make(strict, plan, an_order(plan, b"first"), "1" * 64)
    with pytest.raises(BudgetSpent, match="allowed are 5;"):
        strict.expect_room(plan, an_order(plan, b"second"))
    lax = Ledger(trail, SitePolicy(epsilon_budget=100.0))
    for number in (2, 3):
        make(lax, plan, an_order(plan, b"%d" % number), f"{number}" * 64)
    with pytest.raises(BudgetSpent, match="allowed are 8;"):
        lax.expect_room(plan, an_order(plan, b"4"))


def test_a_visit_that_is_tried_again_counts_once(plan, trail):
    policy, order = SitePolicy(epsilon_budget=5.0), an_order(plan, b"parent")
    make(Ledger(trail, policy), plan, order, "1" * 64)
    make(Ledger(trail, policy), plan, order, "1" * 64)
    assert len(Ledger(trail, policy).entries()) == 1


def test_other_bytes_of_the_same_order_are_another_release(plan, trail):
    ledger, order = Ledger(trail, SitePolicy(epsilon_budget=5.0)), an_order(plan, b"parent")
    make(ledger, plan, order, "1" * 64)
    ledger.expect_room(plan, order)
    with pytest.raises(BudgetSpent):
        ledger.charge(plan, order, "2" * 64)


def test_a_visit_made_again_after_a_withdrawal_counts_again(plan, trail):
    ledger = Ledger(trail, SitePolicy())
    first, after = an_order(plan, b"parent", ("ada", "cai")), an_order(plan, b"parent", ("ada",))
    assert release_of(first) != release_of(after)
    make(ledger, plan, first, "1" * 64)
    make(ledger, plan, after, "2" * 64)
    assert 5.5 < spent(ledger, plan) < 6.5


def test_an_entry_says_what_was_spent_and_is_in_the_trail_before_the_prompt_leaves(plan, trail):
    ledger, order = Ledger(trail, SitePolicy(epsilon_budget=7.0)), an_order(plan, b"parent")
    make(ledger, plan, order, "1" * 64)
    (line,) = (line for line in trail.lines() if line.kind == LineKind.SPENT)
    assert line.facts["epsilon"] == pytest.approx(4.0, rel=0.01)
    assert line.facts["total_epsilon"] == pytest.approx(4.0, rel=0.01)
    assert (line.facts["delta"], line.facts["budget"]) == (1e-5, 7.0)
    assert (line.facts["prompt"], line.facts["visit"]) == ("1" * 64, 2)


def test_a_site_with_a_budget_makes_no_visit_without_a_guarantee(plan, tiny_plan, trail):
    ledger = Ledger(trail, SitePolicy(epsilon_budget=100.0))
    with pytest.raises(NotPermitted, match="gives no guarantee"):
        ledger.expect_room(plan, an_order(plan, b"genesis", ()))
    with pytest.raises(NotPermitted, match="gives no guarantee"):
        ledger.expect_room(tiny_plan, an_order(tiny_plan, b"parent"))
    Ledger(trail, SitePolicy()).expect_room(tiny_plan, an_order(tiny_plan, b"parent"))
