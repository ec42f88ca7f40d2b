"""The segmenter: a residual U-Net (Ronneberger et al. 2015; MONAI's `UNet`) and its loss.

Instance normalisation keeps no running statistics, so a look-ahead pass leaves no trace in the
network and no site's intensity statistics travel inside it.
"""

from collections.abc import Sequence
from typing import cast

import torch
from monai.losses import DiceLoss
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.nn import functional as F

from wardround.shared.plan import Segmenter, Task


def build_segmenter(task: Task, config: Segmenter, seed: int) -> nn.Module:
    """Return an untrained segmenter: images (B, C, *X) in [-1, 1] to logits (B, 1 + classes, *X).

    Args:
        task: Fixes channels, classes and spatial size.
        config: Fixes the width of each level.
        seed: Seed of the initial weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(
            spatial_dims=task.spatial_dims,
            in_channels=task.input_channels,
            out_channels=1 + len(task.classes),
            channels=config.features,
            # MONAI takes one stride per axis, its annotation does not say so.
            strides=cast("Sequence[int]", halvings(task.sample_size, len(config.features))),
            num_res_units=2,
        )


def innermost(segmenter: nn.Module) -> nn.Module:
    """Return the layer of a segmenter that sees the coarsest grid."""
    layer = cast("nn.Sequential", segmenter.model)
    while isinstance(layer, nn.Sequential):
        # A level is: down, the next level within a skip connection, up.
        layer = cast("nn.Sequential", layer[1].submodule)
    return layer


def halvings(size: tuple[int, ...], levels: int) -> list[tuple[int, ...]]:
    """Return the stride from each level to the next: an even axis is halved while 8 or longer."""
    strides = []
    for _ in range(levels - 1):
        stride = tuple(2 if side % 2 == 0 and side >= 8 else 1 for side in size)
        size = tuple(side // step for side, step in zip(size, stride, strict=True))
        strides.append(stride)
    return strides


# With squares in the denominator a soft target is met best by the same probabilities.
_dice_loss = DiceLoss(include_background=False, softmax=True, squared_pred=True, batch=True)


def segmentation_loss(logits_BKX: Tensor, targets_BKX: Tensor) -> Tensor:
    """Return half cross-entropy, half batch Dice loss of the foreground classes.

    Args:
        logits_BKX: (B, 1 + classes, *X).
        targets_BKX: Probabilities of the same shape.
    """
    dice: Tensor = _dice_loss(logits_BKX, targets_BKX)
    return 0.5 * F.cross_entropy(logits_BKX, targets_BKX) + 0.5 * dice
