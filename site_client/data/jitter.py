"""Small random changes of place, size, proportion and angle, alike for image and label map.

Networks train on a few hundred samples many times over. Moved anew each time, these are learnt by
heart less: a segmenter errs less on other images, and of a denoiser it is harder to tell what it
has seen (docs/privacy.md); what is drawn under its prompts is moved likewise.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def jitter(x_BCX: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Return a copy of each sample, moved within the plane at random; slices stay where they are.

    Args:
        x_BCX: Samples (B, C, *X), two or three spatial axes, the first two in the plane.
        amount: j, at most 1. Size changes by a factor of exp(-j) to exp(j), proportion by the same
            with j / 2, place by up to j of half a side, angle by up to j radians.
        generator: The stream of the draw.
    """
    slices_BCX = x_BCX if x_BCX.dim() == 4 else x_BCX.movedim(4, 1).flatten(0, 1)
    matrix_B23 = _matrices(len(x_BCX), amount, generator)
    matrix_B23 = matrix_B23.repeat_interleave(len(slices_BCX) // len(x_BCX), dim=0)
    grid = F.affine_grid(matrix_B23, list(slices_BCX.shape), align_corners=False)
    moved_BCX: Tensor = F.grid_sample(
        slices_BCX, grid, padding_mode="reflection", align_corners=False
    )
    if x_BCX.dim() == 5:
        moved_BCX = moved_BCX.unflatten(0, (len(x_BCX), -1)).movedim(1, 4)
    return moved_BCX


def _matrices(count: int, amount: float, generator: torch.Generator) -> Tensor:
    """Return (count, 2, 3): where each point of the new sample is looked up in the old one."""

    def between(bound: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1) * bound

    size, proportion, angle = between(amount).exp(), between(amount / 2).exp(), between(amount)
    first, second = size * proportion, size / proportion
    rows = [
        torch.stack([first * angle.cos(), -second * angle.sin(), between(amount)], dim=1),
        torch.stack([first * angle.sin(), second * angle.cos(), between(amount)], dim=1),
    ]
    return torch.stack(rows, dim=1)
