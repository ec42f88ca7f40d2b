"""Train a network that draws image-label pairs, and a site's prompt, and keep earlier sites alive.

The loop is the same for a diffusion model and for a variational autoencoder; they differ in their
loss. `denoiser.mode` of the plan says how earlier sites are kept:

    replay    the network trains on; half of each batch is generated under earlier prompts
    distill   likewise, and the loss may ask the network that arrived about the generated half
    frozen    after the first site the network stays as it is; only the new prompt trains

Earlier sites' prompts never change. What travels is the running average of the weights.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from wardround.shared.errors import TrainingError
from wardround.shared.plan import MOST_JITTER, StudyPlan
from wardround.site_client.data.jitter import jitter
from wardround.site_client.learning.averaging import RunningAverage
from wardround.site_client.learning.denoiser import join
from wardround.site_client.learning.pool import Pool, draw

# B batch, C channels, X spatial axes, P prompt tokens, W prompt width

RETRY_JITTER = 0.15  # more at each attempt; none: AUC of 0.86, this much 0.65 (docs/privacy.md)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """An earlier site as it is remembered: its prompt (P, W) and pairs drawn under it."""

    prompt_PW: Tensor
    pairs: Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A batch of pairs in [-1, 1], each with its prompt and whether it was generated."""

    pairs_BCX: Tensor
    prompts_BPW: Tensor
    generated_B: Tensor


# Network in training, network that arrived (None where it is not to be asked), batch, stream.
Loss = Callable[[nn.Module, nn.Module | None, Drawn, torch.Generator], Tensor]


def train_generator(
    network: nn.Module,
    prompt_PW: Tensor,
    *,
    own: Pool,
    earlier: Sequence[Remembered],
    plan: StudyPlan,
    generator: torch.Generator,
    watch: Callable[[int, int], None],
    loss_of: Loss,
) -> tuple[nn.Module, Tensor, float]:
    """Train a network that draws pairs, and the visited site's prompt.

    Args:
        network: As it arrived; not changed.
        prompt_PW: Where the new prompt starts, (P, W).
        own: The site's training samples.
        earlier: Earlier sites' prompts and generated pairs; empty at the first site.
        plan: Mode, steps, batch size, learning rates.
        generator: The stream of every draw.
        watch: Called with (step, steps) after each step.
        loss_of: The loss of a batch.

    Returns:
        The averaged network and prompt (P, W), and the mean loss of the last tenth of steps.

    Raises:
        TrainingError: The loss stopped being finite.
    """
    config = plan.denoiser
    steps = config.steps if earlier else config.first_steps
    student, prompt = copy.deepcopy(network).train(), nn.Parameter(prompt_PW.clone())
    frozen = config.mode == "frozen" and bool(earlier)
    student.requires_grad_(not frozen)
    optimiser = torch.optim.AdamW(
        [
            {
                "params": [p for p in student.parameters() if p.requires_grad],
                "lr": config.learning_rate,
            },
            {"params": [prompt], "lr": config.prompt_learning_rate, "weight_decay": 0.0},
        ],
        weight_decay=1e-4,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: warm_then_fall(step, steps)
    )
    averaged, averaged_PW = copy.deepcopy(student), prompt.detach().clone()
    average = RunningAverage(
        [*averaged.parameters(), averaged_PW], [*student.parameters(), prompt], config.ema_decay
    )
    teacher = network if config.mode == "distill" else None
    losses: list[float] = []
    for step in range(steps):
        batch = _drawn(own, () if frozen else earlier, prompt, plan, generator)
        loss = loss_of(student, teacher, batch, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([*student.parameters(), prompt], 1.0)
        optimiser.step()
        schedule.step()
        average.update()
        losses.append(float(loss.detach()))
        if not torch.isfinite(loss.detach()):
            raise TrainingError(
                f"the denoiser's loss is {losses[-1]} at step {step + 1} of {steps}. "
                f"Lower denoiser.learning_rate (= {config.learning_rate})."
            )
        watch(step + 1, steps)
    tail = losses[-max(1, steps // 10) :]
    return averaged.eval().requires_grad_(False), averaged_PW, sum(tail) / len(tail)


def regularised(plan: StudyPlan, attempt: int) -> StudyPlan:
    """Return the plan by which less of each case is learnt by heart than at the attempt before.

    Attempt 0 is the plan's own. Every further one has half the steps of the one before, never below
    one, and `RETRY_JITTER` more jitter, never above `MOST_JITTER`.
    """
    if attempt == 0:
        return plan
    config = plan.denoiser
    stronger = {
        "first_steps": max(1, config.first_steps >> attempt),
        "steps": max(1, config.steps >> attempt),
        "jitter": min(config.jitter + attempt * RETRY_JITTER, MOST_JITTER),
    }
    return plan.model_copy(update={"denoiser": config.model_copy(update=stronger)})


def _drawn(
    own: Pool,
    earlier: Sequence[Remembered],
    prompt_PW: Tensor,
    plan: StudyPlan,
    generator: torch.Generator,
) -> Drawn:
    """Draw a batch of the site's own samples, half of it generated ones of earlier sites."""
    size, sample_size = plan.denoiser.batch_size, plan.task.sample_size
    num_generated = size // 2 if earlier else 0
    real = draw([own], size - num_generated, sample_size, generator)
    num_images = plan.task.num_images
    joined_BCX = join(real.images_BCX, real.targets_BKX, num_images)
    if plan.denoiser.jitter:
        joined_BCX = jitter(joined_BCX, plan.denoiser.jitter, generator)
    parts = [joined_BCX]
    prompts = [prompt_PW.expand(size - num_generated, -1, -1)]
    if num_generated:
        replayed = draw([site.pairs for site in earlier], num_generated, sample_size, generator)
        parts.append(join(replayed.images_BCX, replayed.targets_BKX, num_images))
        prompts.append(torch.stack([site.prompt_PW for site in earlier])[replayed.group_B])
    return Drawn(
        pairs_BCX=torch.cat(parts),
        prompts_BPW=torch.cat(prompts),
        generated_B=torch.arange(size) >= size - num_generated,
    )


def warm_then_fall(step: int, steps: int) -> float:
    """Return the share of the learning rate at `step` of `steps`, from 0."""
    warm = max(1, steps // 20)
    return min(1.0, (step + 1) / warm) * max(
        0.05, 1 - max(0, step - steps // 2) / max(1, steps - steps // 2)
    )


def precision(plan: StudyPlan) -> torch.autocast:
    """Return the context in which a network that draws pairs computes.

    A processor without bfloat16 takes thirty times as long to imitate it; it computes in float32.
    """
    is_wanted = plan.compute.precision == "bfloat16"
    return torch.autocast("cpu", torch.bfloat16, enabled=is_wanted and has_bfloat16())


@cache
def has_bfloat16() -> bool:
    """Return whether this machine's processor computes in bfloat16 (AVX-512 BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
