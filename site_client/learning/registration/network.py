"""The registrar: a U-Net with large kernels that sees both images and says how one must move.

After LK-UNet (Jia et al. 2022, arXiv:2208.04939): each level halves the grid and sums a 5-, a 3-
and a 1-convolution and what came in, which sees as far as several small kernels and costs fewer
layers. It answers with a stationary velocity field on half the grid: smooth fields lose nothing by
that, and the finest grid would take most of the time (as VoxelMorph does, Dalca et al. 2018,
arXiv:1805.04605). The last layer starts at nought, so an untrained registrar moves nothing: what it
scores is the overlap before registration.
"""

from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.pool import Batch
from wardround.site_client.learning.registration.loss import registration_loss
from wardround.site_client.learning.registration.velocity import of_pixels
from wardround.site_client.learning.segmenter import halvings

# B batch, C channels (fixed image, then moving), X spatial axes, A a number for each axis

_CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


class Registrar(nn.Module):
    """Return the velocity that moves points of the fixed image, (B, A, *half of X).

    It is in halves of a side, so it holds on any grid.
    """

    def __init__(self, plan: StudyPlan) -> None:
        super().__init__()
        task, features = plan.task, plan.segmenter.features
        self.config = plan.registration
        axes = task.spatial_dims
        half, *strides = halvings(task.sample_size, len(features) + 1)
        self.first = _convolved(axes, task.input_channels, features[0], stride=half)
        self.down = nn.ModuleList(
            nn.Sequential(_convolved(axes, given, made, stride=stride), _LargeKernel(axes, made))
            for (given, made), stride in zip(pairwise(features), strides, strict=True)
        )
        self.up = nn.ModuleList(
            _Up(axes, given, made, stride)
            for (made, given), stride in zip(
                reversed(list(pairwise(features))), reversed(strides), strict=True
            )
        )
        self.head = _CONVOLUTIONS[axes](features[0], axes, 3, padding=1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, images_BCX: Tensor) -> Tensor:
        """See the class."""
        levels = [self.first(images_BCX)]
        for level in self.down:
            levels.append(level(levels[-1]))
        h = levels.pop()
        for level in self.up:
            h = level(h, levels.pop())
        return of_pixels(self.head(h))

    def objective(self, said_BAX: Tensor, batch: Batch) -> Tensor:
        """Return the loss of a velocity that this network said of a batch."""
        return registration_loss(said_BAX, batch, self.config)


def build_registrar(plan: StudyPlan, seed: int) -> Registrar:
    """Return an untrained registrar whose initial weights follow from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Registrar(plan)


def innermost(registrar: nn.Module) -> nn.Module:
    """Return the level of a registrar that sees the coarsest grid."""
    return list(cast("Registrar", registrar).down)[-1]


class _LargeKernel(nn.Module):
    """PReLU of the sum of a 5-, a 3- and a 1-convolution and of what came in."""

    def __init__(self, axes: int, channels: int) -> None:
        super().__init__()
        convolution = _CONVOLUTIONS[axes]
        self.convolutions = nn.ModuleList(
            convolution(channels, channels, side, padding=side // 2) for side in (5, 3, 1)
        )
        self.activation = nn.PReLU()

    def forward(self, x_BCX: Tensor) -> Tensor:
        total = x_BCX
        for convolution in self.convolutions:
            total = total + convolution(x_BCX)
        activated: Tensor = self.activation(total)
        return activated


class _Up(nn.Module):
    """Double the grid, join what this level saw on the way down, convolve twice."""

    def __init__(self, axes: int, given: int, made: int, stride: Any) -> None:
        super().__init__()
        self.widen = _TRANSPOSED[axes](given, made, stride, stride=stride)
        self.convolved = nn.Sequential(
            _convolved(axes, 2 * made, made), _convolved(axes, made, made)
        )

    def forward(self, x_BCX: Tensor, seen_BCX: Tensor) -> Tensor:
        convolved: Tensor = self.convolved(torch.cat([self.widen(x_BCX), seen_BCX], dim=1))
        return convolved


def _convolved(axes: int, given: int, made: int, stride: Any = 1) -> nn.Sequential:
    return nn.Sequential(_CONVOLUTIONS[axes](given, made, 3, stride=stride, padding=1), nn.PReLU())
