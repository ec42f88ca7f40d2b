"""Who labels drawn pairs and which are shown, with a labeller whose answers are known."""

import pytest
import torch
from torch import Tensor, nn

from wardround.site_client.learning.pool import Pool, labelled
from wardround.site_client.learning.relabel import relabelled


class Bright(nn.Module):
    """Says that what is brighter than nought is the organ."""

    def forward(self, images_BCX: Tensor) -> Tensor:
        return torch.cat([-images_BCX, images_BCX], dim=1) * 20


def a_pool() -> Pool:
    """Four images whose left quarter is bright, with drawn labels of rising agreement: 0 to 1."""
    images = torch.full((4, 1, 16, 16), -1.0)
    images[:, :, :4] = 1.0
    labels = torch.zeros((4, 16, 16), dtype=torch.int64)
    for number, rows in enumerate((slice(12, 16), slice(3, 7), slice(1, 5), slice(0, 4))):
        labels[number, rows] = 1
    return labelled(images, labels, 1)


def shown(tiny_plan, **replay: object) -> tuple[Pool, float]:
    plan = tiny_plan.model_copy(update={"replay": tiny_plan.replay.model_copy(update=replay)})
    (pool,), agreement = relabelled([a_pool()], [Bright()], plan)
    return pool, agreement


def test_the_labeller_says_what_is_shown_and_all_pairs_stay(tiny_plan) -> None:
    pool, agreement = shown(tiny_plan)
    assert len(pool) == 4
    assert pool.labels_NX[:, :4].all()
    assert not pool.labels_NX[:, 4:].any()
    assert agreement == pytest.approx(2 * (0 + 1 + 3 + 4) / (16 + 16))


@pytest.mark.parametrize(("share", "kept"), [(0.5, [2, 3]), (0.75, [1, 2, 3]), (0.01, [3])])
def test_the_pairs_that_agree_best_are_kept_in_their_order(tiny_plan, share, kept) -> None:
    pool, agreement = shown(tiny_plan, labels="joint", keep_share=share)
    assert torch.equal(pool.targets_NKX, a_pool().targets_NKX[kept])
    assert agreement == shown(tiny_plan)[1], "it is told of all pairs"


def test_an_empty_drawn_label_agrees_with_a_labeller_that_sees_nothing(tiny_plan) -> None:
    dark = labelled(torch.full((1, 1, 16, 16), -1.0), torch.zeros((1, 16, 16)).long(), 1)
    assert relabelled([dark], [Bright()], tiny_plan)[1] == 1.0
