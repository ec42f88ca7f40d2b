"""The audit of a real, tiny denoiser: over-trained on one case, on all, and not at all."""

import numpy as np
import pytest
import torch

from wardround.site_client.data.cases import Case, SiteData, digest_of
from wardround.site_client.learning.denoiser import build_denoiser, new_prompt
from wardround.site_client.learning.diffusion import train_denoiser
from wardround.site_client.learning.pools import case_pool
from wardround.site_client.learning.segmenter import build_segmenter
from wardround.site_client.privacy.memorisation import Limits, Verdict, can_tell, judge, look

LIMITS = Limits(max_copy_rate=0.1, max_membership_auc=1.0, may_release_untold=True)
SIDE, TRAIN, HELDOUT = 16, 8, 6


def case(number: int) -> Case:
    """Return a made-up case: a few smooth blobs, the largest of them the organ."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    image = np.zeros((SIDE, SIDE), np.float32)
    for _ in range(4):
        cy, cx, width = rng.uniform(2, 14), rng.uniform(2, 14), rng.uniform(2, 4)
        image += rng.uniform(50, 200) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / width**2)
    label = (image > np.percentile(image, 80)).astype(np.uint8)
    return Case(
        case_id=f"c{number}",
        image_CHWD=image[None, :, :, None],
        label_HWD=label[:, :, None],
        fov_HWD=None,
        spacing_mm=(1.0, 1.0, 1.0),
    )


CASES = [case(number) for number in range(TRAIN + HELDOUT)]
DATA = SiteData(
    site_id="ada",
    train=tuple(CASES[:TRAIN]),
    heldout=tuple(CASES[TRAIN:]),
    digest=digest_of(CASES),
)


@pytest.fixture
def plan(tiny_plan):
    denoiser = tiny_plan.denoiser.model_copy(
        update={
            "fold": 2,
            "channels": (16, 16),
            "first_steps": 120,
            "batch_size": 8,
            "learning_rate": 3e-3,
            "timesteps": 100,
            "sampling_steps": 10,
            "jitter": 0.0,
        }
    )
    audit = tiny_plan.audit.model_copy(update={"samples": 24})
    return tiny_plan.model_copy(update={"denoiser": denoiser, "audit": audit})


def findings(plan, *, trained_on=()):
    """Return what the audit finds in a denoiser that was trained on these cases."""
    denoiser = build_denoiser(plan.task, plan.denoiser, seed=1)
    generator = torch.Generator().manual_seed(2)
    prompt_PW = new_prompt(plan.denoiser, [], generator)
    if trained_on:
        denoiser, prompt_PW, _ = train_denoiser(
            denoiser,
            prompt_PW,
            own=case_pool(trained_on, plan.task),
            earlier=[],
            plan=plan,
            generator=generator,
            watch=lambda _step, _steps: None,
        )
    segmenter = build_segmenter(plan.task, plan.segmenter, seed=3).eval()
    return look(
        denoiser.eval(),
        prompt_PW,
        segmenter,
        data=DATA,
        plan=plan,
        generator=torch.Generator().manual_seed(4),
    )


def test_a_prompt_over_trained_on_one_case_is_stopped(plan):
    found = findings(plan, trained_on=CASES[:1])
    assert found.same_case.value == 1
    assert found.copies.at_least > 0.5
    assert judge(found, LIMITS) is Verdict.RETRAIN


def test_a_denoiser_that_learnt_nothing_copies_nothing_and_looks_the_same_each_time(plan):
    found = findings(plan)
    assert found.copies.value == 0
    assert judge(found, LIMITS) is Verdict.RELEASE
    assert findings(plan) == found


def test_a_denoiser_that_knows_its_cases_by_heart_tells_who_they_are(plan):
    found = findings(plan, trained_on=DATA.train)
    assert found.membership.at_least > 0.7
    strict = Limits(max_copy_rate=1.0, max_membership_auc=0.6, may_release_untold=True)
    assert judge(found, strict) is Verdict.RETRAIN


@pytest.mark.parametrize(
    ("train", "heldout", "tells"), [(6, 4, True), (5, 4, False), (6, 3, False)]
)
def test_with_few_cases_the_audit_cannot_tell(train, heldout, tells):
    data = SiteData(
        site_id="ada", train=DATA.train[:train], heldout=DATA.heldout[:heldout], digest=DATA.digest
    )
    assert can_tell(data) is tells
