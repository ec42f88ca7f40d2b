"""Augmentation: what each part may and may not change."""

import pytest
import torch

from wardround.shared.plan import Augmentation
from wardround.site_client.data.augment import augment, flip, intensity_stack


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def a_batch(size: tuple[int, ...] = (16, 12)) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand((64, 2, *size), generator=stream(1)) * 2 - 1
    return images, (images[:, :1] > 0).float()


def test_with_everything_off_nothing_changes() -> None:
    images, labels = a_batch()
    got = augment(images, labels, Augmentation(flip=False, jitter=0), stream())
    assert torch.equal(got[0], images)
    assert torch.equal(got[1], labels)


def test_a_flip_moves_image_and_label_alike_and_about_half_of_the_samples() -> None:
    images, labels = a_batch()
    flipped, flipped_labels = flip(images, labels, stream())
    assert torch.equal((flipped[:, :1] > 0).float(), flipped_labels)
    moved = (flipped != images).flatten(1).any(1)
    assert torch.equal(flipped[moved], images[moved].flip(2))
    assert 16 < int(moved.sum()) < 48


@pytest.mark.parametrize("size", [(16, 12), (16, 16, 6)])
def test_the_stack_changes_intensities_within_range_and_leaves_the_input_alone(
    size: tuple[int, ...],
) -> None:
    images, _ = a_batch(size)
    before = images.clone()
    changed = intensity_stack(images, stream())
    assert torch.equal(images, before)
    assert changed.shape == images.shape
    assert changed.abs().max() <= 1
    share = (changed != images).flatten(1).any(1).float().mean()
    assert share > 0.9  # 1 - 2^-6 in the mean


def test_the_stack_never_touches_labels() -> None:
    images, labels = a_batch()
    _, after = augment(images, labels, Augmentation(flip=False, intensity=True, jitter=0), stream())
    assert torch.equal(after, labels)


def test_the_same_stream_augments_alike() -> None:
    images, labels = a_batch()
    config = Augmentation(intensity=True)
    first, again, other = (augment(images, labels, config, stream(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
