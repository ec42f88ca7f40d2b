"""Is an image like those of a site? A Gaussian of what the encoder makes of them.

An image is summed up by the mean of each channel of the encoder's deepest feature map. A decoder
carries mean and variance of these numbers over its site's training images. How strange an image is
to it is the root mean square of its standard scores, a Mahalanobis distance with a diagonal
covariance (Lee et al. 2018, arXiv:1807.03888) over the root of the number of channels: about 1 for
images of the site.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wardround.shared.plan import Task
from wardround.site_client.learning.inference import INFERENCE_BATCH
from wardround.site_client.learning.split_network import Decoder, Features

# N samples, B batch, C channels, X spatial axes
ORDINARY = 2.0  # strangeness up to which a decoder is trusted wholly
RIDGE = 0.01  # share of the mean variance that is added to each, so that none is nought


def summary(features: Features) -> Tensor:
    """Return the mean of each channel of the deepest feature map, (B, C)."""
    return features[-1].flatten(2).mean(dim=2)


def describe(
    decoder: Decoder, encode: Callable[[Tensor], Features], images_NCX: Tensor, task: Task
) -> None:
    """Write into a decoder what its site's images are like.

    Args:
        decoder: Its `seen_mean` and `seen_variance` are replaced.
        encode: A frozen encoder.
        images_NCX: The site's training images, at least one; where the plan trains on patches,
            patches from their middles are looked at.
        task: Says so.
    """
    if task.patch_size is not None:
        images_NCX = _middles(images_NCX, task.patch_size)
    summaries_NC = torch.cat([summary(encode(some)) for some in images_NCX.split(INFERENCE_BATCH)])
    variance_C = summaries_NC.var(dim=0, correction=0)
    decoder.seen_mean.copy_(summaries_NC.mean(dim=0))
    decoder.seen_variance.copy_(variance_C + RIDGE * variance_C.mean() + 1e-8)


def strangeness(decoder: Decoder, summaries_BC: Tensor) -> Tensor:
    """Return how far each image lies from those that a decoder has seen, (B,), 0 and more."""
    squares_BC = (summaries_BC - decoder.seen_mean).square() / decoder.seen_variance
    return squares_BC.mean(dim=1).sqrt()


def trust(decoder: Decoder, summaries_BC: Tensor) -> Tensor:
    """Return how far a decoder is trusted with each image, (B,), in (0, 1].

    1 up to a strangeness of `ORDINARY`, then (ORDINARY / strangeness)^2.
    """
    strange_B = strangeness(decoder, summaries_BC)
    return (ORDINARY / torch.clamp(strange_B, min=ORDINARY)).square()


def _middles(images_NCX: Tensor, size: tuple[int, ...]) -> Tensor:
    corners = [(full - side) // 2 for full, side in zip(images_NCX.shape[2:], size, strict=True)]
    within = (slice(start, start + side) for start, side in zip(corners, size, strict=True))
    return images_NCX[(slice(None), slice(None), *within)]
