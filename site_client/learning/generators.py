"""What can draw image-label pairs under a site's prompt; either travels as the part `denoiser`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from wardround.shared.plan import Denoiser as DenoiserConfig
from wardround.shared.plan import StudyPlan, Task
from wardround.site_client.learning.denoiser import build_denoiser
from wardround.site_client.learning.diffusion import draw_pairs, restore_pairs, train_denoiser
from wardround.site_client.learning.generator_training import Remembered
from wardround.site_client.learning.pool import Pool
from wardround.site_client.learning.vae import build_vae, draw_from_vae, restore_by_vae, train_vae


class Draw(Protocol):
    """Draw `count` pairs under a prompt (P, W)."""

    def __call__(
        self,
        network: nn.Module,
        prompt_PW: Tensor,
        count: int,
        /,
        *,
        plan: StudyPlan,
        generator: torch.Generator,
        watch: Callable[[int, int], None] = ...,
    ) -> Pool:
        """Return a pool of pairs at the plan's sample size."""
        ...


class Train(Protocol):
    """Train a network and the visited site's prompt; see `train_generator`."""

    def __call__(
        self,
        network: nn.Module,
        prompt_PW: Tensor,
        /,
        *,
        own: Pool,
        earlier: Sequence[Remembered],
        plan: StudyPlan,
        generator: torch.Generator,
        watch: Callable[[int, int], None],
    ) -> tuple[nn.Module, Tensor, float]:
        """Return the averaged network and prompt, and the loss."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PairGenerator:
    """A kind of network that draws pairs: how it is built, trained and drawn from.

    Attributes:
        restore: Given a network, pairs (B, C, *X), a prompt (P, W), noise (C, *X), its level in
            (0, 1) and the plan, returns the pairs as the network restores them.
    """

    build: Callable[[Task, DenoiserConfig, int], nn.Module]
    train: Train
    draw: Draw
    restore: Callable[[nn.Module, Tensor, Tensor, Tensor, float, StudyPlan], Tensor]


DIFFUSION = PairGenerator(
    build=build_denoiser, train=train_denoiser, draw=draw_pairs, restore=restore_pairs
)
VAE = PairGenerator(build=build_vae, train=train_vae, draw=draw_from_vae, restore=restore_by_vae)
