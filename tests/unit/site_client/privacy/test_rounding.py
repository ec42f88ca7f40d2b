"""Which numbers stay at the site, and how exact the others are."""

from dataclasses import replace

import pytest

from wardround.shared.errors import EgressRefused
from wardround.shared.messages import (
    ClassScore,
    EvaluationOrder,
    EvaluationReport,
    Phase,
    Progress,
    VisitOrder,
)
from wardround.site_client.privacy.rounding import rounded_evaluation, rounded_progress

SCORE = ClassScore(class_name="organ", dice=0.5, hd95_mm=2.0, asd_mm=None, num_undefined=0)


def _undefined(count, num_cases, k=3):
    report = EvaluationReport(
        visit=0,
        site_id="ada",
        checkpoint_digest="a" * 64,
        num_cases=num_cases,
        classes=(replace(SCORE, num_undefined=count),),
        data_digest="ab" * 32,
    )
    released = rounded_evaluation(report, k)
    return released.num_cases, released.classes[0].num_undefined


def test_counts_that_would_give_small_ones_away_are_suppressed():
    assert _undefined(0, 10) == (10, 0)
    assert _undefined(10, 10) == (10, 10)
    assert _undefined(3, 10) == (10, 3)
    assert _undefined(2, 10) == (10, None), "two cases are undefined"
    assert _undefined(8, 10) == (10, None), "two cases are not"
    assert _undefined(0, 2) == (None, None)
    with pytest.raises(EgressRefused):
        _undefined(11, 10)


def test_what_registration_tells_keeps_six_digits_and_may_be_absent():
    report = EvaluationReport(
        visit=0,
        site_id="ada",
        checkpoint_digest="a" * 64,
        num_cases=10,
        classes=(SCORE,),
        data_digest="ab" * 32,
        folds=0.00123456789,
        tre_mm=12.3456789,
    )
    assert rounded_evaluation(report, 3).folds == 0.00123457
    assert rounded_evaluation(report, 3).tre_mm == 12.3457
    absent = rounded_evaluation(replace(report, folds=None, tre_mm=None), 3)
    assert (absent.folds, absent.tre_mm) == (None, None)


def _progress(plan, phase, step, total, order=None):
    order = order or VisitOrder(
        study_id="tiny",
        plan_digest=plan.digest(),
        visit=1,
        site_id="ada",
        parent=None,
        visited=("ben",),
    )
    told = Progress(visit=1, site_id="ada", phase=phase, step=step, total=total)
    released = rounded_progress(told, order, plan, 3)
    return released.step, released.total


def test_progress_is_told_in_steps_of_the_plan(tiny_plan):
    segmenter = tiny_plan.segmenter.model_copy(update={"steps": 400})
    plan = tiny_plan.model_copy(update={"segmenter": segmenter})
    assert _progress(plan, Phase.SEGMENTER, 0, 0) == (0, 0)
    assert _progress(plan, Phase.SEGMENTER, 399, 400) == (392, 400), "in fiftieths"
    assert _progress(plan, Phase.SEGMENTER, 400, 400) == (400, 400)
    assert _progress(plan, Phase.REPLAY, 1, 2) == (1, 2)
    for phase, total in ((Phase.SEGMENTER, 401), (Phase.REPLAY, 4), (Phase.RELEASE, 1)):
        with pytest.raises(EgressRefused, match="no progress"):
            _progress(plan, phase, 1, total)


def test_the_steps_of_scoring_do_not_tell_a_small_number_of_cases(tiny_plan):
    order = EvaluationOrder(
        study_id="tiny", plan_digest="a" * 64, visit=1, site_id="ada", checkpoint=None
    )
    assert _progress(tiny_plan, Phase.EVALUATE, 1, 2, order) == (0, 1)
    assert _progress(tiny_plan, Phase.EVALUATE, 2, 2, order) == (1, 1)
    assert _progress(tiny_plan, Phase.EVALUATE, 2, 3, order) == (2, 3)
