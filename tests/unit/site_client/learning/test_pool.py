"""Batches: shared evenly, cropped alike, drawn from a stream."""

import pytest
import torch

from wardround.shared.errors import TrainingError
from wardround.site_client.learning.pool import Pool, concatenate, draw, labelled


def a_pool(value: float, *, count: int = 3, size: tuple[int, ...] = (8, 8)) -> Pool:
    labels = torch.full((count, *size), int(value), dtype=torch.long)
    return labelled(torch.full((count, 1, *size), value), labels, 5)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_batch_is_shared_evenly_and_the_odd_one_goes_round() -> None:
    pools, counts = [a_pool(0), a_pool(1), a_pool(2)], torch.zeros(3)
    generator = stream()
    for _ in range(60):
        batch = draw(pools, 4, (8, 8), generator)
        shares = torch.bincount(batch.group_B, minlength=3)
        assert sorted(shares.tolist()) == [1, 1, 2]
        assert torch.equal(batch.images_BCX[:, 0, 0, 0].long(), batch.group_B)
        counts += shares
    assert counts.min() > 60


def test_groups_count_on_from_the_first_group() -> None:
    assert draw([a_pool(0), a_pool(1)], 4, (8, 8), stream(), first_group=3).group_B.tolist() == [
        3,
        3,
        4,
        4,
    ]


def test_image_and_label_are_cropped_at_the_same_place() -> None:
    grid = torch.arange(144).reshape(12, 12)
    pool = labelled(grid[None, None].float(), grid[None], 143)
    batch = draw([pool], 32, (8, 8), stream())
    assert batch.images_BCX.shape == (32, 1, 8, 8)
    assert torch.equal(batch.images_BCX[:, 0].long(), batch.targets_BKX.argmax(1))
    assert len(batch.images_BCX[:, 0, 0, 0].unique()) > 5


def test_the_same_stream_draws_the_same_batch() -> None:
    pool = a_pool(1.0, size=(12, 12))
    pool.images_NCX.normal_(generator=stream(9))
    first, again = (draw([pool], 8, (8, 8), stream(4)) for _ in range(2))
    assert torch.equal(first.images_BCX, again.images_BCX)


def test_concatenating_and_selecting_keep_samples_with_their_groups() -> None:
    both = concatenate(
        [
            draw([a_pool(0)], 2, (8, 8), stream()),
            draw([a_pool(5)], 3, (8, 8), stream(), first_group=1),
        ]
    )
    picked = both.select(both.group_B == 1)
    assert len(both) == 5
    assert picked.images_BCX.unique().tolist() == [5.0]


def test_an_empty_pool_is_an_error() -> None:
    with pytest.raises(TrainingError, match="empty"):
        a_pool(0, count=0)


def test_a_label_is_a_target_for_certain_and_comes_back() -> None:
    labels = torch.tensor([[[0, 1], [2, 1]]])
    pool = labelled(torch.zeros(1, 1, 2, 2), labels, 2)
    assert pool.targets_NKX.shape == (1, 3, 2, 2)
    assert torch.equal(pool.targets_NKX.sum(1), torch.ones(1, 2, 2))
    assert torch.equal(pool.labels_NX, labels)
