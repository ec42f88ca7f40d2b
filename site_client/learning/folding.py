"""Fold pixels into channels and back: a network then works on a coarser grid with more channels."""

from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


def padded(x_BCX: Tensor, divisor: int) -> Tensor:
    """Return the images with zeros after their last pixels, so that `divisor` divides each side."""
    sides = reversed(x_BCX.shape[2:])
    return F.pad(x_BCX, [pad for side in sides for pad in (0, -side % divisor)])


def fold(x_BCX: Tensor, f: int) -> Tensor:
    """Return the images with each side divided by `f`, and f times the channels an axis."""
    if x_BCX.dim() == 4:
        return F.pixel_unshuffle(x_BCX, f)
    return rearrange(x_BCX, "b c (h i) (w j) (d k) -> b (c i j k) h w d", i=f, j=f, k=f)


def unfold(x_BCX: Tensor, f: int) -> Tensor:
    """Undo `fold`."""
    if x_BCX.dim() == 4:
        return F.pixel_shuffle(x_BCX, f)
    return rearrange(x_BCX, "b (c i j k) h w d -> b c (h i) (w j) (d k)", i=f, j=f, k=f)
