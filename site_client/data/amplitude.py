"""One image's content with another's look: slow amplitudes of their spectra are mixed.

FedDG (Liu et al. 2021, arXiv:2103.06030, eq. 2): the phase of the Fourier transform, where the
outlines are, stays; of the lowest frequencies the amplitude, where contrast and shading are, goes
part of the way to that of an image of another site.
"""

import torch
from torch import Tensor

# B batch, C channels, X spatial axes (two or three)

LOW_SHARE = 0.1  # of the highest frequency along an axis: two waves across 48 pixels. Our choice.


def amplitude_mixed(images_BCX: Tensor, looks_BCX: Tensor, share_B: Tensor) -> Tensor:
    """Return the images with slow amplitudes moved towards those of `looks_BCX`.

    Args:
        images_BCX: Images in [-1, 1].
        looks_BCX: As many images of the same size; each gives one image its look.
        share_B: How far each goes, in [0, 1]; 0 gives the image itself, but for rounding.

    Returns:
        Images in [-1, 1].
    """
    axes = tuple(range(2, images_BCX.dim()))
    own, look = (torch.fft.fftn(x, dim=axes) for x in (images_BCX, looks_BCX))
    mixed = torch.lerp(own.abs(), look.abs(), share_B.reshape(-1, *([1] * (own.dim() - 1))))
    amplitude = torch.where(_low(images_BCX.shape[2:]), mixed, own.abs())
    changed = torch.fft.ifftn(torch.polar(amplitude, own.angle()), dim=axes)
    inside: Tensor = changed.real.clamp(-1, 1)
    return inside


def _low(shape: torch.Size) -> Tensor:
    """Return the mask (*X) of frequencies that are at most `LOW_SHARE` of the highest, per axis."""
    inside = torch.ones(shape, dtype=torch.bool)
    for axis, side in enumerate(shape):
        is_low = torch.fft.fftfreq(side).abs() <= LOW_SHARE / 2
        inside &= is_low.reshape([-1 if n == axis else 1 for n in range(len(shape))])
    return inside
