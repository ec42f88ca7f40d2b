"""The buffer: a fair reservoir whose rejected samples change nothing."""

from collections import Counter

import numpy as np
import torch

from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import Case
from wardround.site_client.learning.exemplars import EarlierSite
from wardround.site_client.learning.reservoir import in_reservoir, offer


def filled(length: int, size: int, seed: int) -> list[int]:
    slots: list[int] = []
    generator = torch.Generator().manual_seed(seed)
    for item in range(length):
        offer(slots, item, item, size, generator)
    return slots


def test_what_fits_is_kept_in_order() -> None:
    assert filled(3, 4, seed=0) == [0, 1, 2]
    assert filled(4, 4, seed=0) == [0, 1, 2, 3]


def test_a_sample_that_is_not_taken_changes_nothing() -> None:
    """Of a hundred items some are not taken; each of those leaves all slots as they were."""
    slots = [0, 1, 2]
    generator = torch.Generator().manual_seed(0)
    num_rejected = 0
    for item in range(3, 103):
        before = list(slots)
        offer(slots, item, item, 3, generator)
        if item not in slots:
            num_rejected += 1
            assert slots == before
        else:
            assert sum(a != b for a, b in zip(slots, before, strict=True)) == 1
    assert num_rejected > 80


def test_every_sample_of_a_stream_is_kept_equally_often() -> None:
    """3 of 12 are kept: each in a quarter of 2000 trials, give or take four standard deviations."""
    counts = Counter(item for seed in range(2000) for item in filled(12, 3, seed))

    assert all(abs(counts[item] - 500) < 80 for item in range(12))


def a_site(site_id: str, value: float, count: int = 6) -> EarlierSite:
    cases = [
        Case(
            case_id=f"c{number}",
            image_CHWD=np.random.default_rng(number).normal(size=(1, 16, 16, 1)).astype(np.float32),
            label_HWD=np.full((16, 16, 1), value, np.uint8),
            fov_HWD=None,
            spacing_mm=(1.0, 1.0, 1.0),
        )
        for number in range(count)
    ]
    return EarlierSite(site_id=site_id, cases=cases, segmenter=None)


def with_buffer(plan: StudyPlan, size: int) -> StudyPlan:
    method = plan.method.model_copy(update={"samcl_buffer": size})
    return plan.model_copy(update={"method": method})


def test_the_buffer_is_shared_by_the_sites_and_the_same_in_each_visit(
    tiny_plan: StudyPlan,
) -> None:
    plan = with_buffer(tiny_plan, 4)
    ada, ben = a_site("ada", 0), a_site("ben", 1)
    (alone,), both, again = (in_reservoir(s, plan) for s in ([ada], [ada, ben], [ada, ben]))

    assert len(alone) == 4
    assert sum(map(len, both)) == 4
    assert [len(pool) for pool in both] == [len(pool) for pool in again]
    for first, second in zip(both, again, strict=True):
        assert torch.equal(first.images_NCX, second.images_NCX)
    # What is left of ada's was in the buffer when ada was alone.
    kept = {image.numpy().tobytes() for image in alone.images_NCX}
    assert {image.numpy().tobytes() for image in both[0].images_NCX} <= kept


def test_a_site_of_which_nothing_is_left_has_no_pool(tiny_plan: StudyPlan) -> None:
    pools = in_reservoir([a_site("ada", 0), a_site("ben", 1)], with_buffer(tiny_plan, 1))

    assert [len(pool) for pool in pools] == [1]
