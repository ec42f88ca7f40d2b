"""The ledger: what the prompts of a site have spent of its privacy, and whether there is room.

It is a fold over the site's audit trail, so it is signed, dated and only ever grows. An entry is
one release of one prompt, written before the prompt leaves; the same bytes are the same release, so
a visit that is tried again counts once, and one that is made again after a withdrawal, from another
checkpoint, counts again. All studies of a workspace add up; of other workspaces it knows nothing.
"""

import hashlib
import json
from dataclasses import dataclass

from wardround.shared.accountant import Spending, epsilon_of
from wardround.shared.checkpoint import PROMPT
from wardround.shared.errors import BudgetSpent, NotPermitted
from wardround.shared.formal_dp import guarantee_of
from wardround.shared.messages import VisitOrder
from wardround.shared.plan import StudyPlan
from wardround.shared.trail import Trail
from wardround.shared.trail_lines import LineKind
from wardround.site_client.privacy.policy import POLICY_FILE, SitePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One release: of which order, which bytes (a digest), and what it spent."""

    release: str
    prompt: str
    spending: Spending


class Ledger:
    """What one site has spent.

    Args:
        trail: The site's.
        policy: The site's; its budget and that of the plan hold, whichever is less.
    """

    def __init__(self, trail: Trail, policy: SitePolicy) -> None:
        self._trail, self._policy = trail, policy

    def entries(self) -> tuple[Entry, ...]:
        """Return every release, oldest first."""
        return tuple(
            Entry(
                release=str(line.facts["release"]),
                prompt=str(line.facts["prompt"]),
                spending=Spending(
                    noise_multiplier=float(line.facts["noise_multiplier"]),
                    sampling_rate=float(line.facts["sampling_rate"]),
                    steps=int(line.facts["steps"]),
                ),
            )
            for line in self._trail.lines()
            if line.kind == LineKind.SPENT
        )

    def expect_room(self, plan: StudyPlan, order: VisitOrder) -> None:
        """Check, before anything is trained, that a visit may spend what its plan says.

        Raises:
            BudgetSpent: It would exceed the budget.
            NotPermitted: The site has a budget, and the visit no guarantee.
        """
        if guarantee_of(plan, order.visited) is None:
            if self._policy.epsilon_budget is not None:
                raise NotPermitted(
                    f"site '{order.site_id}' has a privacy budget (epsilon_budget in "
                    f"{POLICY_FILE}), and visit {order.visit} of study '{order.study_id}' gives no "
                    f"guarantee: the plan has none, or this visit trains the denoiser. Visit "
                    f"another site first, or have the staff take the budget out."
                )
            return
        entries = self.entries()
        if release_of(order) not in {entry.release for entry in entries}:
            self._total_with(plan, order, entries)

    def charge(self, plan: StudyPlan, order: VisitOrder, prompt: str) -> None:
        """Write down what a prompt costs that is about to leave; once for the same bytes.

        Args:
            plan: The plan.
            order: The visit that made it.
            prompt: SHA-256 of its file.

        Raises:
            BudgetSpent: It would exceed the budget.
            TrailError: It cannot be written down.
        """
        entries = self.entries()
        guarantee = guarantee_of(plan, order.visited)
        if guarantee is None or prompt in {entry.prompt for entry in entries}:
            return
        total = self._total_with(plan, order, entries)
        spending = plan.privacy.spending(plan.denoiser.steps)
        self._trail.append(
            LineKind.SPENT,
            {
                "visit": order.visit,
                "study": order.study_id,
                "release": release_of(order),
                "prompt": prompt,
                "noise_multiplier": spending.noise_multiplier,
                "sampling_rate": spending.sampling_rate,
                "steps": spending.steps,
                "segmenter": plan.privacy.segmenter,
                "epsilon": guarantee.epsilon,
                "delta": guarantee.delta,
                "total_epsilon": total,
                "budget": self._policy.most_epsilon(plan),
            },
        )

    def _total_with(self, plan: StudyPlan, order: VisitOrder, entries: tuple[Entry, ...]) -> float:
        """Return the epsilon of all entries and of one more visit, at the plan's delta."""
        delta, most = plan.privacy.delta, self._policy.most_epsilon(plan)
        before = [entry.spending for entry in entries]
        total = epsilon_of([*before, plan.privacy.spending(plan.denoiser.steps)], delta)
        if total > most:
            raise BudgetSpent(
                f"site '{order.site_id}' would spend epsilon {total:.4g} at delta {delta:g} with "
                f"visit {order.visit} of study '{order.study_id}', allowed are {most:g}; spent are "
                f"{epsilon_of(before, delta):.4g} in {len(before)} release(s). Nothing was "
                f"trained or released. A budget is raised in a plan that all sites approve anew, "
                f"and in {POLICY_FILE}."
            )
        return total


def release_of(order: VisitOrder) -> str:
    """Return what names the release that an order asks for, before it is made."""
    made_from = [
        [part.name, part.digest]
        for part in order.parent.parts
        if part.name == "denoiser" or part.name.startswith(PROMPT)
    ]
    named = [order.plan_digest, order.site_id, list(order.visited), made_from]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()
