"""What a plan promises in differential privacy, and what not; said in one way everywhere.

Protected is the case, one image with its label: with or without it, the prompt that leaves a site
is drawn from nearly the same distribution. Only the prompt of a visit that finds a trained denoiser
is made so. Where the segmenter trains on pairs drawn under that prompt alone, it is a function of
what is covered, and so are the labeller and what a method remembers; else they have no guarantee.
The first visit trains the denoiser itself and has none; scores never have one.
"""

from collections.abc import Sequence

from wardround.shared import accountant
from wardround.shared.messages import Guarantee
from wardround.shared.plan import StudyPlan
from wardround.shared.plan_method import DRAWS_PAIRS, KEEPS_REAL_CASES

NO = "no"
_DIGITS = 6


def guarantee_of(plan: StudyPlan, visited: Sequence[str]) -> Guarantee | None:
    """Return the guarantee that the prompt of one visit has; None where it has none.

    Args:
        plan: The study plan.
        visited: Sites visited before, in lineage order.
    """
    if not (plan.privacy.dp and plan.method.name in DRAWS_PAIRS and visited):
        return None
    delta = plan.privacy.delta
    epsilon = accountant.epsilon_of([plan.privacy.spending(plan.denoiser.steps)], delta)
    return Guarantee(epsilon=float(f"{epsilon:.{_DIGITS}g}"), delta=delta)


def covers_segmenter(plan: StudyPlan, visited: Sequence[str]) -> bool:
    """Return whether a visit's guarantee holds for its segmenter, which then sees no case."""
    return plan.privacy.segmenter == "drawn" and guarantee_of(plan, visited) is not None


def promise_of(plan: StudyPlan) -> str:
    """Return "no", or "yes" with epsilon, delta and what they hold for."""
    if not plan.privacy.dp:
        return NO
    if plan.method.name not in DRAWS_PAIRS:
        return f"{NO} (the method '{plan.method.name}' has no prompt)"
    privacy = plan.privacy
    covered, others = coverage_of(privacy.segmenter)
    return (
        f"yes (epsilon {privacy.epsilon:g}, delta {privacy.delta:g}) for {covered} of each visit "
        f"but the first; no for the first visit, and for {others} of any"
    )


def coverage_of(segmenter: str) -> tuple[str, str]:
    """Return in words what a visit's guarantee covers, and what it does not.

    Args:
        segmenter: What the segmenter trains on, as in `privacy.segmenter` of a plan.
    """
    if segmenter == "drawn":
        return "prompt, segmenter and labeller", "scores"
    return "the prompt", "segmenter, labeller and scores"


def note_of(plan: StudyPlan) -> str:
    """Return in a sentence what left the sites of a study, and what that may tell."""
    if plan.method.name in KEEPS_REAL_CASES:
        return (
            "This method trains a site on other sites' real cases. It breaks the rule that images "
            "never leave their hospital and exists for comparison in simulation alone."
        )
    given = (
        "Whoever holds the weights may still try to tell who was among the cases"
        if guarantee_of(plan, plan.sites)
        else "No formal privacy guarantee is given"
    )
    return (
        f"No image left its site; model weights and prompts did. {given}. What the "
        f"memorisation audit of each visit found is under `audit`."
    )
