"""Train the denoiser and a site's prompt; draw image-label pairs from a prompt.

The network predicts the clean pair, not the noise: a small network need not carry noise through
(with velocity prediction the generated images of the same budget stayed grainy). The squared error
is weighted by 1 / (noise level)^2, which makes it the velocity's error (Salimans and Ho 2022,
arXiv:2202.00512), up to a bound. The cosine schedule (Nichol and Dhariwal 2021, arXiv:2102.09672)
is MONAI's, the sampler is in `sampler.py`.
The training loop is `generator_training`'s. Under `denoiser.mode = "distill"` the target on the
generated half of a batch is what the denoiser that arrived predicts (generative distillation, Masip
et al. 2023, arXiv:2311.14028).
"""

from collections.abc import Callable, Sequence

import torch
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor, nn

from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.denoiser import separate
from wardround.site_client.learning.generator_training import (
    Drawn,
    Loss,
    Remembered,
    precision,
    train_generator,
)
from wardround.site_client.learning.pool import Pool
from wardround.site_client.learning.sampler import sample

# B batch, C channels, X spatial axes, P prompt tokens, W prompt width

DRAW_BATCH = 32
MAX_WEIGHT = 20.0  # of a sample's error, against steps that are almost clean


def new_schedule(plan: StudyPlan) -> DDPMScheduler:
    """Return the noise schedule."""
    return DDPMScheduler(num_train_timesteps=plan.denoiser.timesteps, schedule="cosine")


@torch.no_grad()
def draw_pairs(
    denoiser: nn.Module,
    prompt_PW: Tensor,
    count: int,
    *,
    plan: StudyPlan,
    generator: torch.Generator,
    watch: Callable[[int, int], None] = lambda _step, _total: None,
) -> Pool:
    """Draw `count` image-label pairs under a prompt.

    Args:
        denoiser: In evaluation mode.
        prompt_PW: The site's prompt (P, W).
        count: How many pairs.
        plan: Sample size, classes, number of sampling steps, precision.
        generator: The stream of the noise.
        watch: Called with (pairs drawn, pairs in all).

    Returns:
        A pool of `count` pairs at the plan's sample size.
    """
    schedule, steps = new_schedule(plan), plan.denoiser.sampling_steps
    task = plan.task

    def clean(noisy_BCX: Tensor, t: int) -> Tensor:
        prompts_BPW = prompt_PW.expand(len(noisy_BCX), -1, -1)
        with precision(plan):
            made_BCX = denoiser(noisy_BCX, torch.full((len(noisy_BCX),), t), prompts_BPW)
        predicted_BCX: Tensor = made_BCX.float()
        return predicted_BCX

    drawn: list[Tensor] = []
    for first in range(0, count, DRAW_BATCH):
        size = min(DRAW_BATCH, count - first)
        noise_BCX = torch.randn((size, task.drawn_channels, *task.sample_size), generator=generator)
        drawn.append(sample(clean, noise_BCX, schedule.alphas_cumprod, steps))
        watch(first + size, count)
    return separate(torch.cat(drawn), len(task.classes), task.num_images)


def restore_pairs(
    denoiser: nn.Module,
    pairs_BCX: Tensor,
    prompt_PW: Tensor,
    noise_CX: Tensor,
    level: float,
    plan: StudyPlan,
) -> Tensor:
    """Return what the denoiser makes of pairs with noise of `level`, a share of the schedule."""
    t_B = torch.full((len(pairs_BCX),), int(level * plan.denoiser.timesteps))
    noisy_BCX = new_schedule(plan).add_noise(pairs_BCX, noise_CX.expand(pairs_BCX.shape), t_B)
    with precision(plan):
        made_BCX = denoiser(noisy_BCX, t_B, prompt_PW.expand(len(pairs_BCX), -1, -1))
    restored_BCX: Tensor = made_BCX.float()
    return restored_BCX


def train_denoiser(
    denoiser: nn.Module,
    prompt_PW: Tensor,
    *,
    own: Pool,
    earlier: Sequence[Remembered],
    plan: StudyPlan,
    generator: torch.Generator,
    watch: Callable[[int, int], None],
) -> tuple[nn.Module, Tensor, float]:
    """Train the denoiser and the visited site's prompt, as `train_generator` says."""
    return train_generator(
        denoiser,
        prompt_PW,
        own=own,
        earlier=earlier,
        plan=plan,
        generator=generator,
        watch=watch,
        loss_of=_denoising(plan),
    )


def _denoising(plan: StudyPlan) -> Loss:
    """Return the weighted squared error of the pairs predicted from noisy ones."""
    schedule = new_schedule(plan)

    def loss_of(
        student: nn.Module, teacher: nn.Module | None, batch: Drawn, generator: torch.Generator
    ) -> Tensor:
        which_B = batch.generated_B

        def taught(noisy_BCX: Tensor, t_B: Tensor) -> Tensor:
            target_BCX = batch.pairs_BCX.clone()
            if teacher is not None and bool(which_B.any()):
                with torch.no_grad(), precision(plan):
                    said = teacher(noisy_BCX[which_B], t_B[which_B], batch.prompts_BPW[which_B])
                target_BCX[which_B] = said.float()
            return target_BCX

        errors_B = sample_errors(
            student,
            batch.pairs_BCX,
            batch.prompts_BPW,
            plan=plan,
            schedule=schedule,
            generator=generator,
            target=taught,
        )
        return errors_B.mean()

    return loss_of


def sample_errors(
    denoiser: nn.Module,
    pairs_BCX: Tensor,
    prompts_BPW: Tensor,
    *,
    plan: StudyPlan,
    schedule: DDPMScheduler,
    generator: torch.Generator,
    target: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the weighted squared error of each sample's predicted pair, (B,).

    Args:
        denoiser: Predicts the clean pairs.
        pairs_BCX: Joined image-label pairs.
        prompts_BPW: The prompt of each.
        plan: Length of the noise schedule, precision.
        schedule: The noise schedule.
        generator: The stream of noise and time steps.
        target: Given noisy pairs and time steps, returns what is to be predicted; else the pairs.
    """
    noise = torch.randn(pairs_BCX.shape, generator=generator)
    t_B = torch.randint(plan.denoiser.timesteps, (len(pairs_BCX),), generator=generator)
    noisy_BCX = schedule.add_noise(pairs_BCX, noise, t_B)
    target_BCX = pairs_BCX if target is None else target(noisy_BCX, t_B)
    with precision(plan):
        predicted_BCX = denoiser(noisy_BCX, t_B, prompts_BPW)
    weight_B = (1 / (1 - schedule.alphas_cumprod[t_B])).clamp(max=MAX_WEIGHT)
    error_B = (predicted_BCX.float() - target_BCX).pow(2).flatten(1).mean(1)
    errors_B: Tensor = weight_B * error_B
    return errors_B
