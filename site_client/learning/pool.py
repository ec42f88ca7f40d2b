"""A pool of training samples and the batches drawn from it.

A target gives each pixel a probability per class: one for the class of a label, shares where a
network gave the label.

A pool holds one site's samples (its own, its exemplars, or the pairs generated under its prompt). A
batch is drawn from one or several pools, cropped to the plan's sample size where the samples are
larger.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wardround.shared.errors import TrainingError

# N samples in a pool, B samples in a batch, C channels, K background and classes, X spatial axes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Samples of one site: images (N, C, *X) in [-1, 1], targets (N, 1 + classes, *X) in [0, 1].

    A sample of several images has the channels of all, one image after the other, and their targets
    likewise.
    `logits_NKX`, where there are any, is what a network said of the images, shaped as the targets.
    """

    images_NCX: Tensor
    targets_NKX: Tensor
    logits_NKX: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.images_NCX) == 0:
            raise TrainingError(
                "a pool of training samples is empty. Give the site at least one training case."
            )

    def __len__(self) -> int:
        return len(self.images_NCX)

    def select(self, places: Sequence[int]) -> "Pool":
        """Return the samples at `places`, at least one."""
        which_N = torch.tensor(places)
        return Pool(
            images_NCX=self.images_NCX[which_N],
            targets_NKX=self.targets_NKX[which_N],
            logits_NKX=None if self.logits_NKX is None else self.logits_NKX[which_N],
        )

    @property
    def labels_NX(self) -> Tensor:  # noqa: N802  a shape suffix, as in Samples
        """Return the most probable class of each pixel, (N, *X) int64."""
        return self.targets_NKX.argmax(dim=1)


def labelled(images_NCX: Tensor, labels_NX: Tensor, num_classes: int) -> Pool:
    """Return the pool of `images_NCX` whose targets are the labels, (N, *X) int64, for certain."""
    targets_NXK = F.one_hot(labels_NX, num_classes + 1)
    return Pool(images_NCX=images_NCX, targets_NKX=targets_NXK.movedim(-1, 1).to(torch.float32))


def side_by_side(pools: Sequence[Pool]) -> Pool:
    """Return the pool whose samples show those of several pools at once: their channels joined."""
    return Pool(
        images_NCX=torch.cat([pool.images_NCX for pool in pools], dim=1),
        targets_NKX=torch.cat([pool.targets_NKX for pool in pools], dim=1),
    )


def apart(pool: Pool, num_images: int) -> tuple[Pool, ...]:
    """Undo `side_by_side` for samples of so many images."""
    parts = zip(
        pool.images_NCX.chunk(num_images, dim=1),
        pool.targets_NKX.chunk(num_images, dim=1),
        strict=True,
    )
    return tuple(Pool(images_NCX=images, targets_NKX=targets) for images, targets in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Samples with the group (0: the visited site, k: the k-th earlier site) each came from."""

    images_BCX: Tensor
    targets_BKX: Tensor
    group_B: Tensor
    logits_BKX: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images_BCX)

    def select(self, which_B: Tensor) -> "Batch":
        """Return the samples where a mask (B,) is true, or at the places given."""
        return Batch(
            images_BCX=self.images_BCX[which_B],
            targets_BKX=self.targets_BKX[which_B],
            group_B=self.group_B[which_B],
            logits_BKX=None if self.logits_BKX is None else self.logits_BKX[which_B],
        )


Samples = tuple[Batch, Batch | None]  # of a step: the visited site's, and what is replayed


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Return one batch with the samples of all, without logits."""
    return Batch(
        images_BCX=torch.cat([batch.images_BCX for batch in batches]),
        targets_BKX=torch.cat([batch.targets_BKX for batch in batches]),
        group_B=torch.cat([batch.group_B for batch in batches]),
    )


def draw(
    pools: Sequence[Pool],
    batch_size: int,
    sample_size: tuple[int, ...],
    generator: torch.Generator,
    *,
    first_group: int = 0,
) -> Batch:
    """Draw a batch shared as evenly as can be among the pools; which pools get one more is random.

    Args:
        pools: At least one; pool i becomes group `first_group` + i. All have logits, or none.
        batch_size: Samples in all.
        sample_size: Spatial size of a sample; larger ones are cropped at a random place.
        generator: The stream of the draw.
        first_group: Group of the first pool.
    """
    turn = torch.randperm(len(pools), generator=generator)
    owners = turn[torch.arange(batch_size) % len(pools)].sort().values
    images, targets, logits = [], [], []
    for owner in owners.tolist():
        pool = pools[owner]
        index = int(torch.randint(len(pool), (1,), generator=generator))
        corner = [
            slice(start, start + side)
            for side, full in zip(sample_size, pool.targets_NKX.shape[2:], strict=True)
            for start in (
                int(torch.randint(full - side + 1, (1,), generator=generator))
                if full > side
                else 0,
            )
        ]
        images.append(pool.images_NCX[(index, slice(None), *corner)])
        targets.append(pool.targets_NKX[(index, slice(None), *corner)])
        if pool.logits_NKX is not None:
            logits.append(pool.logits_NKX[(index, slice(None), *corner)])
    return Batch(
        images_BCX=torch.stack(images),
        targets_BKX=torch.stack(targets),
        group_B=owners + first_group,
        logits_BKX=torch.stack(logits) if logits else None,
    )
