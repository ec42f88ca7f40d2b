"""The segmenter's sizes and its loss, by hand where a hand can follow."""

import math

import pytest
import torch

from wardround.shared.plan import Segmenter, Task
from wardround.site_client.learning.segmenter import build_segmenter, segmentation_loss


@pytest.mark.parametrize(
    ("dims", "size"),
    [("2d", (16, 24)), ("2.5d", (40, 16)), ("3d", (16, 16, 7)), ("3d", (24, 16, 10))],
)
def test_logits_have_the_size_of_the_image_whatever_its_sides(
    dims: str, size: tuple[int, ...]
) -> None:
    task = Task(dims=dims, classes=("one", "two"), working_size=size)
    network = build_segmenter(task, Segmenter(features=(4, 8, 16, 16)), seed=0)
    images = torch.zeros((2, task.input_channels, *size))
    assert network(images).shape == (2, 3, *size)


def test_the_seed_decides_the_weights_and_leaves_the_global_stream_alone() -> None:
    task = Task(classes=("one",), working_size=(16, 16))
    before = torch.get_rng_state()
    first, again, other = (
        torch.cat([w.flatten() for w in build_segmenter(task, Segmenter(), seed).parameters()])
        for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_loss_of_even_odds_on_one_class() -> None:
    """Cross-entropy ln 2; Dice loss 1 - 2*0.5*4 / (0.25*8 + 4): eight pixels, four of them 1."""
    logits = torch.zeros(1, 2, 2, 4)
    targets = torch.zeros(1, 2, 2, 4)
    targets[:, 1, :, :2], targets[:, 0, :, 2:] = 1, 1
    expected = 0.5 * math.log(2) + 0.5 * (1 - 4 / 6)
    assert float(segmentation_loss(logits, targets)) == pytest.approx(expected, abs=1e-5)


def test_a_soft_target_is_met_best_by_its_own_probabilities() -> None:
    targets = torch.tensor([0.3, 0.7]).reshape(1, 2, 1, 1).expand(1, 2, 4, 4)
    logits = targets.log().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(segmentation_loss(logits, targets), logits)
    assert float(gradient.abs().max()) < 1e-6
