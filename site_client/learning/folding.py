"""A coarser grid with more channels, on which a network works faster; and back.

*Pixels*: each block of f pixels an axis becomes one place with f channels an axis. Nothing is lost.

*Frequencies*: each block becomes the slowest k of its f frequencies an axis (an orthonormal cosine
transform, Ahmed et al. 1974). That is a latent space: for large images most of a block's numbers
are fine grain, which a small network need not draw. The transform is orthonormal, so white noise is
white noise there too, and diffusing pairs of pixels whose fine grain the network never sees is
diffusing in that space. Unlike a learned autoencoder (Rombach et al. 2022, arXiv:2112.10752) it is
the same for every site, learns no case by heart and need not travel.
"""

import math
from functools import cache

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


class Folding:
    """How images (B, C, *X) become (B, C * `numbers`, *X / f), and back.

    Args:
        dims: Spatial axes, 2 or 3.
        f: Side of a block.
        frequencies: How many frequencies an axis are kept of each block; None for its pixels.
    """

    def __init__(self, dims: int, f: int, frequencies: int | None = None) -> None:
        self.dims, self.f, self.frequencies = dims, f, frequencies
        self.numbers = (frequencies or f) ** dims

    @property
    def strength(self) -> Tensor:
        """Return how large each number typically is, (`numbers`,): slow waves are strong.

        For images in [-1, 1], half of which is used: f^(dims / 2) / 2 where a wave is a block's
        mean, less by (1 + frequency)^1.5 for others; 1 for pixels.
        """
        if self.frequencies is None:
            return torch.ones(self.numbers)
        waves = torch.cartesian_prod(*[torch.arange(self.frequencies)] * self.dims)
        strength: Tensor = self.f ** (self.dims / 2) / 2 / (1 + waves.sum(1)) ** 1.5
        return strength

    def fold(self, x_BCX: Tensor) -> Tensor:
        """Return the images on the coarser grid; `f` divides their sides."""
        f = self.f
        if self.frequencies is not None:
            convolve = F.conv2d if self.dims == 2 else F.conv3d
            basis = _basis(self.dims, f, self.frequencies).to(x_BCX)
            blocks: Tensor = convolve(x_BCX.flatten(0, 1).unsqueeze(1), basis, stride=f)
            folded_BCX: Tensor = blocks.unflatten(0, x_BCX.shape[:2]).flatten(1, 2)
            return folded_BCX
        if self.dims == 2:
            return F.pixel_unshuffle(x_BCX, f)
        return rearrange(x_BCX, "b c (h i) (w j) (d k) -> b (c i j k) h w d", i=f, j=f, k=f)

    def unfold(self, x_BCX: Tensor) -> Tensor:
        """Undo `fold`; without the frequencies that were not kept."""
        f = self.f
        if self.frequencies is not None:
            convolve = F.conv_transpose2d if self.dims == 2 else F.conv_transpose3d
            basis = _basis(self.dims, f, self.frequencies).to(x_BCX)
            blocks = x_BCX.unflatten(1, (-1, self.numbers))
            images: Tensor = convolve(blocks.flatten(0, 1), basis, stride=f)
            unfolded_BCX: Tensor = images.squeeze(1).unflatten(0, blocks.shape[:2])
            return unfolded_BCX
        if self.dims == 2:
            return F.pixel_shuffle(x_BCX, f)
        return rearrange(x_BCX, "b (c i j k) h w d -> b c (h i) (w j) (d k)", i=f, j=f, k=f)


def padded(x_BCX: Tensor, divisor: int) -> Tensor:
    """Return the images with zeros after their last pixels, so that `divisor` divides each side."""
    sides = reversed(x_BCX.shape[2:])
    return F.pad(x_BCX, [pad for side in sides for pad in (0, -side % divisor)])


@cache
def _basis(dims: int, f: int, frequencies: int) -> Tensor:
    """Return the waves of a block, (frequencies ** dims, 1, f, ...), the slowest first."""
    place = torch.arange(f, dtype=torch.float64) + 0.5
    wave = torch.arange(frequencies, dtype=torch.float64)
    rows = torch.cos(math.pi / f * wave[:, None] * place) * math.sqrt(2 / f)
    rows[0] /= math.sqrt(2)
    basis = rows
    for _ in range(dims - 1):
        basis = torch.einsum("n...,kx->nk...x", basis, rows).flatten(0, 1)
    return basis.unsqueeze(1).to(torch.float32)
