"""How unlike two pictures are, wherever and however bright one lies in the other.

Pictures are shrunk until noise is gone and shape is left; then the distance is 1 - the normalised
cross-correlation (Lewis 1995) at the best place: brightness and contrast drop out, and a picture
that was moved a little, or mirrored, is found again. Of a whole image the middle is looked for; of
a patch all of it, anywhere in the training image.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from wardround.shared.plan import Task
from wardround.site_client.data.augment import MIRROR_AXIS

# T pictures looked for, R references, N either, C channels, X spatial axes

COARSE_SIDE = 20  # pictures are shrunk while a side is at least twice this long
MARGIN = 2  # coarse pixels by which a whole image may have been moved
FLAT = 1e-3  # standard deviation below which there is no picture


def distances(pictures_TCX: Tensor, references_RCX: Tensor, task: Task) -> Tensor:
    """Return the distance of each picture to each reference, (T, R) in [0, 2].

    A picture without any structure is at distance 1 from everything.

    Args:
        pictures_TCX: Whole images or patches, as the task's samples are.
        references_RCX: Whole images of the task's working size.
        task: Which of the two samples are, and their sizes.
    """
    factors = [max(1, side // COARSE_SIDE) for side in task.sample_size]
    wanted, found = _shrunk(pictures_TCX, factors), _shrunk(references_RCX, factors)
    if task.patch_size is None:
        middle = [_middle(side) for side in wanted.shape[2:]]
        wanted = wanted[(slice(None), slice(None), *middle)]
    units = torch.cat([_unit(wanted), _unit(wanted.flip(MIRROR_AXIS))])
    nearest = torch.stack([_best_match(units, one) for one in found.split(1)], dim=1)
    return 1 - torch.maximum(*nearest.chunk(2))


def _best_match(units_TCX: Tensor, reference_1CX: Tensor) -> Tensor:
    """Return the largest correlation of each picture with any place of one reference, (T,)."""
    slide = F.conv2d if units_TCX.dim() == 4 else F.conv3d
    ones = torch.ones_like(units_TCX[:1])
    total = slide(reference_1CX, ones)
    spread = slide(reference_1CX.square(), ones) - total.square() / ones.numel()
    norm = spread.clamp(min=FLAT**2 * ones.numel()).sqrt()
    return (slide(reference_1CX, units_TCX) / norm)[0].flatten(1).max(dim=1).values.clamp(-1, 1)


def _unit(pictures_TCX: Tensor) -> Tensor:
    """Return the pictures with mean 0 and norm 1; those without structure as zeros."""
    flat = pictures_TCX.flatten(1)
    flat = flat - flat.mean(dim=1, keepdim=True)
    norm = flat.norm(dim=1, keepdim=True)
    is_flat = norm < FLAT * flat.shape[1] ** 0.5
    return torch.where(is_flat, 0.0, flat / norm.clamp(min=1e-12)).reshape(pictures_TCX.shape)


def _shrunk(images_NCX: Tensor, factors: list[int]) -> Tensor:
    pool = F.avg_pool2d if len(factors) == 2 else F.avg_pool3d
    return pool(images_NCX, factors)


def _middle(side: int) -> slice:
    margin = min(MARGIN, (side - 1) // 4)
    return slice(margin, side - margin)
