"""Augmentation of segmenter batches: flips, jitter, and a stack that simulates another scanner.

The stack follows BigAug (Zhang et al. 2020, arXiv:1906.03347): each of gamma, bias field, noise,
blur, brightness and sharpening is applied to a sample with probability one half. Every method of a
study gets the same augmentation, so that none is favoured; the denoiser sees none of it and
learns each site as it is.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from wardround.shared.plan import Augmentation
from wardround.site_client.data.jitter import jitter

# B batch, C channels, X spatial axes (two or three)

# The first in-plane axis: from left to right in a NIfTI slice, top to bottom in a PNG picture.
MIRROR_AXIS = 2


def augment(
    images_BCX: Tensor, targets_BKX: Tensor, config: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return augmented copies of a batch.

    Args:
        images_BCX: Images in [-1, 1].
        targets_BKX: Targets, moved as the images are.
        config: Which augmentations are on.
        generator: The stream of every draw.
    """
    if config.flip:
        images_BCX, targets_BKX = flip(images_BCX, targets_BKX, generator)
    if config.jitter:
        channels = images_BCX.shape[1], targets_BKX.shape[1]
        joined = jitter(torch.cat([images_BCX, targets_BKX], dim=1), config.jitter, generator)
        images_BCX, targets_BKX = joined.split(channels, dim=1)
    if config.intensity:
        images_BCX = intensity_stack(images_BCX, generator)
    return images_BCX, targets_BKX


def flip(
    images_BCX: Tensor, targets_BKX: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mirror half of the samples, drawn at random, along `MIRROR_AXIS`."""
    chosen_B = torch.rand(len(images_BCX), generator=generator) < 0.5
    return _mirrored(images_BCX, chosen_B), _mirrored(targets_BKX, chosen_B)


def intensity_stack(images_BCX: Tensor, generator: torch.Generator) -> Tensor:
    """Change contrast, shading, noise and sharpness of each sample; values stay in [-1, 1]."""
    x = (images_BCX + 1) / 2
    for change in (_gamma, _blur, _sharpen, _bias_field, _brightness, _noise):
        chosen_B = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(_as(chosen_B, x), change(x, generator).clamp(0, 1), x)
    return x * 2 - 1


def _gamma(x: Tensor, generator: torch.Generator) -> Tensor:
    log_gamma = _uniform(x, -0.7, 0.9, generator)  # gamma from 0.5 to 2.5
    return x.clamp(min=1e-4) ** log_gamma.exp()


def _brightness(x: Tensor, generator: torch.Generator) -> Tensor:
    return x * _uniform(x, 0.8, 1.2, generator) + _uniform(x, -0.1, 0.1, generator)


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + torch.randn(x.shape, generator=generator) * _uniform(x, 0.01, 0.08, generator)


def _bias_field(x: Tensor, generator: torch.Generator) -> Tensor:
    """Multiply by the exponential of a slow field: a 3 x 3 (x 3) grid, interpolated."""
    axes = x.dim() - 2
    grid = torch.randn((len(x), 1, *([3] * axes)), generator=generator)
    field = F.interpolate(
        grid, x.shape[2:], mode="bilinear" if axes == 2 else "trilinear", align_corners=True
    )
    return x * (field * _uniform(x, 0.1, 0.4, generator)).exp()


def _blur(x: Tensor, generator: torch.Generator) -> Tensor:
    mix = _uniform(x, 0.3, 1.0, generator)
    return torch.lerp(x, _smooth(x), mix)


def _sharpen(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + _uniform(x, 0.3, 1.5, generator) * (x - _smooth(x))


def _smooth(x: Tensor) -> Tensor:
    """Blur with the binomial kernel 1 4 6 4 1 along every in-plane axis."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    channels, axes = x.shape[1], x.dim() - 2
    convolve = F.conv2d if axes == 2 else F.conv3d
    for axis in (0, 1):
        shape = [1] * axes
        shape[axis] = 5
        padding = [0] * (2 * axes)
        padding[2 * (axes - 1 - axis)] = padding[2 * (axes - 1 - axis) + 1] = 2
        weight = kernel.reshape(1, 1, *shape).expand(channels, 1, *shape)
        x = convolve(F.pad(x, padding, mode="replicate"), weight, groups=channels)
    return x


def _uniform(x: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Draw one number per sample, shaped to multiply a (B, C, *X) tensor."""
    return low + (high - low) * torch.rand((len(x), *([1] * (x.dim() - 1))), generator=generator)


def _as(mask_B: Tensor, like: Tensor) -> Tensor:
    return mask_B.reshape(-1, *([1] * (like.dim() - 1)))


def _mirrored(x: Tensor, chosen_B: Tensor) -> Tensor:
    return torch.where(_as(chosen_B, x), x.flip(MIRROR_AXIS), x)
