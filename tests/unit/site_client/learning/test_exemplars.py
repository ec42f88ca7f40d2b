"""Kept cases: which, the same each time, and logits that stay with their pixels."""

import numpy as np
import pytest
import torch

from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import Case
from wardround.site_client.learning.diverse_buffer import diverse
from wardround.site_client.learning.exemplars import EarlierSite, drawn, drawn_with_logits
from wardround.site_client.learning.inference import logits, probabilities
from wardround.site_client.learning.pool import Pool, draw
from wardround.site_client.learning.segmenter import build_segmenter
from wardround.site_client.learning.segmenter_training import train_segmenter


@pytest.fixture
def plan(tiny_plan: StudyPlan) -> StudyPlan:
    method = tiny_plan.method.model_copy(update={"exemplars": 2})
    return tiny_plan.model_copy(update={"method": method})


def a_site(plan: StudyPlan, site_id: str, count: int = 5) -> EarlierSite:
    generator = np.random.default_rng(len(site_id))
    cases = [
        Case(
            case_id=f"c{number}",
            image_CHWD=generator.normal(size=(1, 16, 16, 2)).astype(np.float32),
            label_HWD=(generator.random((16, 16, 2)) > 0.5).astype(np.uint8),
            fov_HWD=None,
            spacing_mm=(1.0, 1.0, 1.0),
        )
        for number in range(count)
    ]
    segmenter = build_segmenter(plan.task, plan.segmenter, seed=3).eval()
    return EarlierSite(site_id=site_id, cases=cases, segmenter=segmenter)


@pytest.mark.parametrize("keep", [drawn, drawn_with_logits, diverse])
def test_a_later_visit_keeps_the_same_cases_of_a_site(plan: StudyPlan, keep) -> None:
    ada, ben = a_site(plan, "ada"), a_site(plan, "benjamin")
    (before,), after = keep([ada], plan), keep([ada, ben], plan)

    assert [len(pool) for pool in after] == [2 * 2, 2 * 2]  # cases of two slices
    assert torch.equal(before.images_NCX, after[0].images_NCX)


def test_a_site_with_fewer_cases_gives_them_all(plan: StudyPlan) -> None:
    assert len(drawn([a_site(plan, "ada", count=1)], plan)[0]) == 2


def test_stored_logits_are_what_the_network_that_left_the_site_says(plan: StudyPlan) -> None:
    site = a_site(plan, "ada")
    (pool,), (plain,) = drawn_with_logits([site], plan), drawn([site], plan)

    assert torch.equal(pool.images_NCX, plain.images_NCX)
    assert pool.logits_NKX is not None
    assert torch.equal(pool.logits_NKX, logits(site.network, pool.images_NCX, plan.task))
    said = probabilities(site.network, pool.images_NCX, plan.task)
    assert torch.allclose(pool.logits_NKX.softmax(1), said)


def test_without_a_network_there_are_no_logits(plan: StudyPlan) -> None:
    site = EarlierSite(site_id="ada", cases=a_site(plan, "ada").cases, segmenter=None)
    with pytest.raises(TypeError, match="ada"):
        drawn_with_logits([site], plan)


def test_logits_are_cropped_and_mirrored_with_their_pixels(plan: StudyPlan) -> None:
    """Image, target and logits hold the same numbers, so they must stay equal."""
    grid = torch.arange(24.0 * 24).reshape(1, 1, 24, 24)
    pool = Pool(
        images_NCX=grid, targets_NKX=grid.repeat(1, 2, 1, 1), logits_NKX=grid.repeat(1, 2, 1, 1)
    )
    batch = draw([pool], 8, (16, 16), torch.Generator().manual_seed(0))
    assert torch.equal(batch.logits_BKX, batch.targets_BKX)
    assert torch.equal(batch.select(torch.tensor([3])).logits_BKX, batch.logits_BKX[3:4])

    seen = []

    class Watching:
        def gradient(self, incoming, replay, _generator):
            seen.append((incoming, replay))
            raise StopIteration

        def leave(self, *_args):
            return {}

    own = Pool(images_NCX=grid, targets_NKX=grid.repeat(1, 2, 1, 1))
    larger = plan.segmenter.model_copy(update={"batch_size": 16})
    with pytest.raises(StopIteration):
        train_segmenter(
            build_segmenter(plan.task, plan.segmenter, seed=0),
            own=[own],
            replay=[pool],
            learner=Watching(),
            plan=plan.model_copy(update={"segmenter": larger}),
            generator=torch.Generator().manual_seed(0),
            watch=lambda _step, _steps: None,
        )
    ((incoming, replay),) = seen
    assert incoming.logits_BKX is None
    assert torch.equal(replay.logits_BKX, replay.targets_BKX)
    rises_B = replay.images_BCX[:, 0, 0, 0] < replay.images_BCX[:, 0, -1, 0]
    assert 0 < int(rises_B.sum()) < len(rises_B)  # some are mirrored
