"""A variational autoencoder that draws image and label map together, under a site's prompt.

Kingma and Welling 2014 (arXiv:1312.6114), conditional as in Sohn et al. 2015 (NeurIPS 28): the
encoder gives a normal distribution over a code z for a pair, the decoder the pair for a code, and a
prior says which codes a site's pairs have. All three read the site's prompt, which scales and
shifts every layer. Per value of the pair, the loss is

    squared error + 2 VARIANCE KL(q(z | pair, prompt) || p(z | prompt)) / number of values

which is the negative evidence bound for pixels of that variance. A pair is drawn by decoding a code
of the prior. Drawn images are smooth: the decoder gives the mean of what a code may stand for. With
one prior for all sites, codes drawn after such short trainings lay where no pair's code does.

It stands in the place of the denoiser, so that a comparison can tell a better network that draws
from a better use of what it draws: same pairs, prompts, training loop and table `[denoiser]` of the
plan (not its noise schedule), and it travels as the part `denoiser`. The pairs generated under
earlier prompts are training pairs like the site's own, so modes replay and distill are the same.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wardround.shared.plan import Denoiser as DenoiserConfig
from wardround.shared.plan import StudyPlan, Task
from wardround.site_client.learning.denoiser import separate
from wardround.site_client.learning.diffusion import DRAW_BATCH
from wardround.site_client.learning.folding import Folding, padded
from wardround.site_client.learning.generator_training import (
    Drawn,
    Remembered,
    precision,
    train_generator,
)
from wardround.site_client.learning.pool import Pool

# B batch, C channels (image then classes), X spatial axes, P prompt tokens, W prompt width, Z code

CODE = 64
VARIANCE = 0.02  # of a pixel about its mean; about the squared error that training comes to


class _Layer(nn.Module):
    """Convolve, normalise, scale and shift as the prompt says."""

    def __init__(self, dims: int, given: int, made: int, width: int, stride: int = 1) -> None:
        super().__init__()
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.convolution = convolution(given, made, 3, stride=stride, padding=1)
        self.norm = nn.GroupNorm(8, made)
        self.modulation = nn.Linear(width, 2 * made)

    def forward(self, x_BCX: Tensor, prompt_BW: Tensor) -> Tensor:
        scale, shift = (
            part.reshape(*part.shape, *([1] * (x_BCX.dim() - 2)))
            for part in self.modulation(prompt_BW).chunk(2, dim=1)
        )
        return F.silu(self.norm(self.convolution(x_BCX)) * (1 + scale) + shift)


class Vae(nn.Module):
    """Encode a pair, draw a code, decode it; the prompt (B, P, W) enters as its mean token."""

    def __init__(self, task: Task, config: DenoiserConfig) -> None:
        super().__init__()
        self.size = task.sample_size
        widths, dims, width = config.channels, task.spatial_dims, config.prompt_width
        self.divisor = config.fold * 2 ** (len(widths) - 1)
        self.grid = tuple(-(-side // self.divisor) for side in self.size)
        self.folding = Folding(dims, config.fold, config.frequencies)
        channels = task.drawn_channels * self.folding.numbers
        self.down = nn.ModuleList(
            _Layer(dims, given, made, width, stride=2 if place else 1)
            for place, (given, made) in enumerate(zip((channels, *widths), widths, strict=False))
        )
        self.code = nn.Linear(widths[-1] * prod(self.grid), 2 * CODE)
        self.prior = nn.Linear(width, 2 * CODE)
        self.start = nn.Linear(CODE, widths[-1] * prod(self.grid))
        self.up = nn.ModuleList(
            _Layer(dims, given, made, width)
            for given, made in zip(widths[::-1], (*widths[-2::-1], widths[0]), strict=True)
        )
        self.out = (nn.Conv2d if dims == 2 else nn.Conv3d)(widths[0], channels, 3, padding=1)

    def encode(self, pairs_BCX: Tensor, prompt_BPW: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance of the pairs' codes, each (B, Z)."""
        h, prompt_BW = self.folding.fold(padded(pairs_BCX, self.divisor)), prompt_BPW.mean(1)
        for layer in self.down:
            h = layer(h, prompt_BW)
        return _mean_and_log(self.code(h.flatten(1)))

    def expect(self, prompt_BPW: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance of a site's codes, each (B, Z)."""
        return _mean_and_log(self.prior(prompt_BPW.mean(1)))

    def decode(self, code_BZ: Tensor, prompt_BPW: Tensor) -> Tensor:
        """Return the pairs that the codes stand for, (B, C, *X)."""
        h = self.start(code_BZ).reshape(len(code_BZ), -1, *self.grid)
        prompt_BW = prompt_BPW.mean(1)
        for place, layer in enumerate(self.up):
            h = layer(F.interpolate(h, scale_factor=2.0) if place else h, prompt_BW)
        whole = (slice(None), slice(None), *(slice(side) for side in self.size))
        return self.folding.unfold(self.out(h))[whole]

    def forward(
        self, pairs_BCX: Tensor, noise_BZ: Tensor, prompt_BPW: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the pairs decoded again, and the divergence of each one's code, (B,)."""
        code = self.encode(pairs_BCX, prompt_BPW)
        again_BCX = self.decode(_sample(code, noise_BZ), prompt_BPW)
        return again_BCX, divergence(code, self.expect(prompt_BPW))


def divergence(code: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> Tensor:
    """Return KL(code || expected) of normal distributions, (B,), from (mean, log variance) each."""
    (mean_BZ, log_BZ), (prior_BZ, prior_log_BZ) = code, expected
    ratio_BZ = (log_BZ - prior_log_BZ).exp() + (mean_BZ - prior_BZ) ** 2 / prior_log_BZ.exp()
    return 0.5 * (ratio_BZ - 1 + prior_log_BZ - log_BZ).sum(1)


def _mean_and_log(both_BZ: Tensor) -> tuple[Tensor, Tensor]:
    mean_BZ, log_BZ = both_BZ.float().chunk(2, dim=1)
    return mean_BZ, log_BZ.clamp(-10, 10)


def _sample(code: tuple[Tensor, Tensor], noise_BZ: Tensor) -> Tensor:
    return code[0] + (code[1] / 2).exp() * noise_BZ


def build_vae(task: Task, config: DenoiserConfig, seed: int) -> Vae:
    """Return an untrained network whose initial weights follow from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Vae(task, config)


@torch.no_grad()
def draw_from_vae(
    vae: nn.Module,
    prompt_PW: Tensor,
    count: int,
    *,
    plan: StudyPlan,
    generator: torch.Generator,
    watch: Callable[[int, int], None] = lambda _step, _total: None,
) -> Pool:
    """Draw `count` image-label pairs under a prompt; the arguments are those of `draw_pairs`."""
    if not isinstance(vae, Vae):
        raise TypeError(f"a {type(vae).__name__} is no autoencoder to draw from")
    drawn: list[Tensor] = []
    for first in range(0, count, DRAW_BATCH):
        size = min(DRAW_BATCH, count - first)
        noise_BZ = torch.randn((size, CODE), generator=generator)
        prompt_BPW = prompt_PW.expand(size, -1, -1)
        with precision(plan):
            code_BZ = _sample(vae.expect(prompt_BPW), noise_BZ)
            drawn.append(vae.decode(code_BZ, prompt_BPW).float())
        watch(first + size, count)
    return separate(torch.cat(drawn), len(plan.task.classes), plan.task.num_images)


def restore_by_vae(
    vae: nn.Module,
    pairs_BCX: Tensor,
    prompt_PW: Tensor,
    _noise_CX: Tensor,
    _level: float,
    plan: StudyPlan,
) -> Tensor:
    """Return the pairs as the mean of their codes decodes; no noise is in that."""
    if not isinstance(vae, Vae):
        raise TypeError(f"a {type(vae).__name__} is no autoencoder to restore by")
    prompt_BPW = prompt_PW.expand(len(pairs_BCX), -1, -1)
    with precision(plan):
        mean_BZ, _ = vae.encode(pairs_BCX, prompt_BPW)
        return vae.decode(mean_BZ, prompt_BPW).float()


def train_vae(
    vae: nn.Module,
    prompt_PW: Tensor,
    *,
    own: Pool,
    earlier: Sequence[Remembered],
    plan: StudyPlan,
    generator: torch.Generator,
    watch: Callable[[int, int], None],
) -> tuple[nn.Module, Tensor, float]:
    """Train the network and the visited site's prompt, as `train_generator` says."""

    def loss_of(
        student: nn.Module, _teacher: nn.Module | None, batch: Drawn, stream: torch.Generator
    ) -> Tensor:
        noise_BZ = torch.randn((len(batch.pairs_BCX), CODE), generator=stream)
        with precision(plan):
            again_BCX, divergence_B = student(batch.pairs_BCX, noise_BZ, batch.prompts_BPW)
        error_B = (again_BCX.float() - batch.pairs_BCX).pow(2).flatten(1).mean(1)
        loss: Tensor = (error_B + 2 * VARIANCE * divergence_B / batch.pairs_BCX[0].numel()).mean()
        return loss

    return train_generator(
        vae,
        prompt_PW,
        own=own,
        earlier=earlier,
        plan=plan,
        generator=generator,
        watch=watch,
        loss_of=loss_of,
    )
