"""What a continual method is: where its replay comes from, and which gradient it follows."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from wardround.shared.plan import Method as MethodConfig
from wardround.site_client.learning.pool import Batch


class ReplaySource(Enum):
    """Where samples of earlier sites come from."""

    NONE = "none"
    GENERATED = "generated"  # drawn from the denoiser under earlier sites' prompts
    EXEMPLARS = "exemplars"  # real cases kept from earlier sites
    POOLED = "pooled"  # every site's real cases at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient:
    """One step's gradient, parameter by parameter, and what it was made from."""

    tensors: tuple[Tensor, ...]
    loss: float
    cosine: float | None = None  # between the incoming and the replay gradient, in [-1, 1]


GradientRule = Callable[[nn.Module, Batch, Batch | None, MethodConfig, torch.Generator], Gradient]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to learn at one site without forgetting the earlier ones."""

    name: str
    replay: ReplaySource
    gradient: GradientRule

    @property
    def keeps_real_cases(self) -> bool:
        """Say whether it breaks the privacy rule, so that it may run in a simulation alone."""
        return self.replay in (ReplaySource.EXEMPLARS, ReplaySource.POOLED)
