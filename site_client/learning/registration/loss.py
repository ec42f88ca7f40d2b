"""How far a deformation is from bringing one image onto the other, and how bent it is.

    ncc * (1 - local correlation) + dice * (1 - overlap of labels) + bending * bending energy

The moving image and its label maps are pulled back by exp(v) and compared with the fixed ones. The
paper behind `samcl` (arXiv:2406.17575) compares half-way, after moving both by half; one way takes
half the interpolations and blurs one image instead of two.
"""

from functools import cache
from itertools import combinations_with_replacement

import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss
from torch import Tensor

from wardround.shared.plan_registration import Registration
from wardround.site_client.learning.pool import Batch
from wardround.site_client.learning.registration.velocity import in_pixels, integrate, on_grid, warp

# B batch, C channels, K background and classes, X spatial axes, A a number for each axis

# Sum of squares over a window, of intensities in [0, 1], below which there is nothing to compare.
FAINT = 1e-3


def registration_loss(velocity_BAX: Tensor, batch: Batch, config: Registration) -> Tensor:
    """Return the loss of a velocity.

    Args:
        velocity_BAX: In halves of a side, on the images' grid or a coarser one.
        batch: Images and targets, each those of the fixed image and then of the moving one.
        config: Weights and window.
    """
    fixed, moving = ((images + 1) / 2 for images in batch.images_BCX.chunk(2, dim=1))
    fixed_map, moving_map = _shown(*batch.targets_BKX.chunk(2, dim=1))
    displacement_BAX = on_grid(integrate(velocity_BAX), fixed.shape[2:])
    moved = warp(torch.cat([moving, moving_map], dim=1), displacement_BAX)
    image, labels = moved[:, : moving.shape[1]], moved[:, moving.shape[1] :]
    similar: Tensor = 1 + _correlation(velocity_BAX.shape[1], config.window)(image, fixed)
    return (
        config.ncc * similar
        + config.dice * overlap_loss(labels, fixed_map)
        + config.bending * bending_energy(in_pixels(velocity_BAX))
    )


def overlap_loss(moved_BKX: Tensor, fixed_BKX: Tensor) -> Tensor:
    """Return 1 - the mean soft Dice of the classes that a sample shows, one map each; 0 for none.

    With squares in the denominator, as in the paper; a class that neither map of a sample has says
    nothing about how well the two lie on each other.
    """
    moved, fixed = moved_BKX.flatten(2), fixed_BKX.flatten(2)
    total_BK = (moved.square() + fixed.square()).sum(2)
    is_shown = total_BK.detach() > 0
    dice_BK = 2 * (moved * fixed).sum(2) / total_BK.clamp(min=1e-6)
    return ((1 - dice_BK) * is_shown).sum() / is_shown.sum().clamp(min=1)


def bending_energy(field_BAX: Tensor) -> Tensor:
    """Return the mean square of all second derivatives of a field in pixels, mixed ones twice.

    Each is the difference of differences between neighbours. (MONAI's loss indexes in a way that
    torch is about to give up.)
    """
    axes = range(2, field_BAX.dim())
    energy = field_BAX.new_zeros(())
    for one, other in combinations_with_replacement(axes, 2):
        second = field_BAX.diff(dim=one).diff(dim=other)
        energy = energy + (1 if one == other else 2) * second.square().mean()
    return energy


def _shown(one_BKX: Tensor, other_BKX: Tensor) -> tuple[Tensor, Tensor]:
    """Return both maps without the background and the classes that no sample of the batch has."""
    both_BKX = torch.maximum(one_BKX, other_BKX)
    is_shown = both_BKX.transpose(0, 1).flatten(1).amax(1) > 0
    is_shown[0] = False
    return one_BKX[:, is_shown], other_BKX[:, is_shown]


@cache
def _correlation(axes: int, window: int) -> LocalNormalizedCrossCorrelationLoss:
    """Return minus the mean squared correlation within windows of so many pixels a side."""
    return LocalNormalizedCrossCorrelationLoss(axes, window, smooth_dr=FAINT)
