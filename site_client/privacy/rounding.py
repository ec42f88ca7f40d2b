"""How exact a number is when it leaves a site, and which counts stay.

Scores keep six significant digits, losses and cosines four, seconds three: more would be room for
bits and say nothing further. A count of fewer than k cases stays at the site, and so does one that
would give such a count away: with `num_cases` known, `num_undefined` tells how many cases are
defined, and the steps of a scoring phase are cases. Progress is told in fiftieths of what the plan
says a phase takes.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from wardround.shared.errors import EgressRefused
from wardround.shared.messages import (
    ClassScore,
    EvaluationOrder,
    EvaluationReport,
    Metric,
    Phase,
    Progress,
    VisitOrder,
    VisitReport,
)
from wardround.shared.plan import StudyPlan

SCORE_DIGITS, LOSS_DIGITS, SECONDS_DIGITS = 6, 4, 3
PROGRESS_PARTS = 50
MAX_CASES = 100_000
_FINE = (
    Metric.DICE_BEFORE,
    Metric.DICE_AFTER,
    Metric.REPLAYED_PAIRS,
    Metric.REPLAY_AGREEMENT,
)
_COUNTS_CASES = (Phase.EVALUATE_PARENT, Phase.EVALUATE)
_K = TypeVar("_K")


def rounded_visit(report: VisitReport, order: VisitOrder, plan: StudyPlan, k: int) -> VisitReport:
    """Return a visit report as it may leave.

    Args:
        report: As the visit made it.
        order: The order it answers.
        plan: The study plan.
        k: The smallest case count that may leave.

    Raises:
        EgressRefused: A metric is not enumerated, or no number of this visit.
    """
    unknown = [key for key in report.metrics if type(key) is not Metric]
    if unknown:
        raise EgressRefused(
            f"metric {ascii(unknown[0])[:80]} is not one of those that may leave. "
            f"Add it to the wire contract or leave it out."
        )
    pairs = plan.replay.samples_per_site * len(order.visited)
    if report.metrics.get(Metric.REPLAYED_PAIRS, pairs) != pairs:
        raise EgressRefused(
            f"the visit report does not tell of the {pairs} replayed pairs that the plan asks for. "
            f"Report what the plan says."
        )
    return replace(
        report,
        num_train=suppressed(report.num_train, k),
        metrics={
            metric: rounded(value, SCORE_DIGITS if metric in _FINE else LOSS_DIGITS)
            for metric, value in report.metrics.items()
        },
        phase_seconds=_all_rounded(report.phase_seconds, SECONDS_DIGITS),
    )


def rounded_evaluation(report: EvaluationReport, k: int) -> EvaluationReport:
    """Return an evaluation report as it may leave; `k` as for `rounded_visit`."""
    num_cases = suppressed(report.num_cases, k)
    return replace(
        report,
        num_cases=num_cases,
        classes=tuple(_rounded_score(score, num_cases, k) for score in report.classes),
        folds=None if report.folds is None else rounded(report.folds, SCORE_DIGITS),
        tre_mm=None if report.tre_mm is None else rounded(report.tre_mm, SCORE_DIGITS),
    )


def rounded_progress(
    progress: Progress, order: VisitOrder | EvaluationOrder, plan: StudyPlan, k: int
) -> Progress:
    """Return progress as it may leave: steps that the plan knows, in fiftieths.

    Raises:
        EgressRefused: The phase does not take that many steps.
    """
    phase, step, total = progress.phase, progress.step, progress.total
    if phase in _COUNTS_CASES:
        if not 0 <= step <= total <= MAX_CASES:
            raise _no_such_progress(progress)
        if 0 < total < k:  # its cases are fewer than may be told
            step, total = int(step == total), 1
    elif total not in (0, _steps_of(phase, order, plan)) or not 0 <= step <= total:
        raise _no_such_progress(progress)
    if step != total:
        step -= step % max(1, total // PROGRESS_PARTS)
    return replace(progress, step=step, total=total)


def suppressed(count: int | None, k: int) -> int | None:
    """Return a count, or None where it is below k."""
    return None if count is None or count < k else count


def rounded(value: Any, digits: int) -> float:
    """Return a number with `digits` significant digits.

    Raises:
        EgressRefused: It is none, or not finite.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise EgressRefused(
            f"a reported number is not finite or not a number (a {type(value).__name__}). "
            f"Training diverged or a metric is wrong; nothing was released."
        )
    return float(f"{value:.{digits}g}") + 0.0  # a negative zero would be a bit of its own


def _steps_of(phase: Phase, order: VisitOrder | EvaluationOrder, plan: StudyPlan) -> int:
    """Return how many steps a phase takes; 0 where it has none."""
    if isinstance(order, EvaluationOrder):
        return 0
    match phase:
        case Phase.REPLAY:
            return plan.replay.samples_per_site * len(order.visited)
        case Phase.SEGMENTER:
            return plan.segmenter.steps
        case Phase.TRIM:
            return plan.trimming_steps
        case Phase.DENOISER:
            return plan.denoiser.steps if order.visited else plan.denoiser.first_steps
        case _:
            return 0


def _rounded_score(score: ClassScore, num_cases: int | None, k: int) -> ClassScore:
    return replace(
        score,
        dice=rounded(score.dice, SCORE_DIGITS),
        hd95_mm=None if score.hd95_mm is None else rounded(score.hd95_mm, SCORE_DIGITS),
        asd_mm=None if score.asd_mm is None else rounded(score.asd_mm, SCORE_DIGITS),
        num_undefined=_undefined(score.num_undefined, num_cases, k),
    )


def _undefined(count: int | None, num_cases: int | None, k: int) -> int | None:
    """Return how many cases are undefined, where neither these nor the others are 1 to k - 1."""
    if count is None or num_cases is None:
        return None
    if count > num_cases:
        raise EgressRefused(
            f"{count} of {num_cases} cases are said to be undefined. The score is wrong; nothing "
            f"was released."
        )
    return None if any(0 < one < k for one in (count, num_cases - count)) else count


def _all_rounded(numbers: Mapping[_K, float], digits: int) -> dict[_K, float]:
    return {key: rounded(value, digits) for key, value in numbers.items()}


def _no_such_progress(progress: Progress) -> EgressRefused:
    return EgressRefused(
        f"step {ascii(progress.step)[:20]} of {ascii(progress.total)[:20]} is no progress that "
        f"the plan's phases make. Report the steps of the plan."
    )
