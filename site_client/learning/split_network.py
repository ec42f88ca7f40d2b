"""A segmenter in two: one encoder for all sites, and for each site a decoder on top of it.

The encoder is the way down of a residual U-Net and the decoder its way up, out of MONAI's blocks. A
decoder reads each feature map through a 1x1 convolution into a width of its own, so it may be
narrower than the encoder: a share s of the channels takes little more than s^2 of the weights.
Instance normalisation keeps no running statistics, so networks do not depend on which images
passed through them.

A decoder has an answer for every class of the plan and is asked for those of its site alone, so
decoders of one width have one form, whatever their sites label.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from monai.networks.blocks import Convolution, ResidualUnit
from torch import Tensor, nn

from wardround.shared.plan import Segmenter, Task
from wardround.site_client.learning.segmenter import halvings

# B batch, C channels, K background and classes, X spatial axes
NARROWEST = 2  # channels of a level at least
SEEN = ("seen_mean", "seen_variance")  # tensors of a decoder that training does not move

Features = list[Tensor]


class Encoder(nn.Module):
    """Images (B, C, *X) in [-1, 1] to one feature map a level, finest first.

    Args:
        task: Fixes channels and spatial size.
        config: Fixes the width of each level.
    """

    def __init__(self, task: Task, config: Segmenter) -> None:
        super().__init__()
        widths = config.features
        strides = (*halvings(task.sample_size, len(widths)), (1,) * task.spatial_dims)
        self.levels = nn.ModuleList(
            ResidualUnit(task.spatial_dims, before, width, strides=cast("int", stride), subunits=2)
            for before, width, stride in zip(
                (task.input_channels, *widths[:-1]), widths, strides, strict=True
            )
        )

    def forward(self, images_BCX: Tensor) -> Features:
        """Return the feature map of each level."""
        features: Features = []
        for level in self.levels:
            features.append(level(features[-1] if features else images_BCX))
        return features


class Decoder(nn.Module):
    """The feature maps of an `Encoder` to logits (B, 1 + classes, *X).

    `seen_mean` and `seen_variance` (C,) describe the images it was trained on (`familiarity`).

    Args:
        task: Fixes classes and spatial size.
        config: Fixes the encoder's widths.
        share: Its own width at each level, as a share of the encoder's, in (0, 1].
    """

    def __init__(self, task: Task, config: Segmenter, share: float) -> None:
        super().__init__()
        dims = task.spatial_dims
        widths = [max(NARROWEST, round(share * width)) for width in config.features]
        self.readers = nn.ModuleList(
            Convolution(dims, width, own, kernel_size=1)
            for width, own in zip(config.features, widths, strict=True)
        )
        self.ways_up = nn.ModuleList()
        self.seen_mean = nn.Buffer(torch.zeros(config.features[-1]))
        self.seen_variance = nn.Buffer(torch.ones(config.features[-1]))
        below, num_outputs = widths[-1], 1 + len(task.classes)
        for level, stride in reversed(list(enumerate(halvings(task.sample_size, len(widths))))):
            is_top = level == 0
            above = num_outputs if is_top else widths[level - 1]
            self.ways_up.append(
                nn.Sequential(
                    Convolution(
                        dims,
                        widths[level] + below,
                        above,
                        strides=cast("int", stride),
                        is_transposed=True,
                    ),
                    ResidualUnit(dims, above, above, subunits=1, last_conv_only=is_top),
                )
            )
            below = above

    def forward(self, features: Features) -> Tensor:
        """Return logits on the grid of the images."""
        *skips, deepest = (
            reader(feature_BCX) for reader, feature_BCX in zip(self.readers, features, strict=True)
        )
        said_BCX: Tensor = deepest
        for way_up, skip_BCX in zip(self.ways_up, reversed(skips), strict=True):
            said_BCX = way_up(torch.cat([skip_BCX, said_BCX], dim=1))
        return said_BCX


class SplitSegmenter(nn.Module):
    """Encoder and decoder as one network: images to logits of the classes that are asked for.

    Args:
        encode: The encoder, which is then trained along; or what `frozen` makes of it, and the
            network's parameters are the decoder's alone.
        decoder: The way up.
        asked: Which of the decoder's outputs to return, in this order; 0 is the background.
    """

    def __init__(
        self, encode: Callable[[Tensor], Features], decoder: Decoder, asked: Sequence[int]
    ) -> None:
        super().__init__()
        self.encode, self.decoder, self.asked = encode, decoder, list(asked)

    def forward(self, images_BCX: Tensor) -> Tensor:
        """Return logits (B, len(asked), *X)."""
        return self.answer(self.encode(images_BCX))

    def answer(self, features: Features) -> Tensor:
        """Return logits of what the encoder makes of images."""
        said_BKX: Tensor = self.decoder(features)
        return said_BKX[:, self.asked]


def frozen(encoder: Encoder) -> Callable[[Tensor], Features]:
    """Return the encoder as a function without parameters, which keeps no trace for gradients."""
    encoder.eval().requires_grad_(False)

    def encode(images_BCX: Tensor) -> Features:
        with torch.no_grad():
            features: Features = encoder(images_BCX)
        return features

    return encode


def build_encoder(task: Task, config: Segmenter, seed: int) -> Encoder:
    """Return an untrained encoder whose weights follow from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(task, config)


def build_decoder(task: Task, config: Segmenter, share: float, seed: int) -> Decoder:
    """Return an untrained decoder of a width, as a share of the encoder's, from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Decoder(task, config, share)


def num_weights(network: nn.Module) -> int:
    """Return how many weights a network has."""
    return sum(weight.numel() for weight in network.parameters())
