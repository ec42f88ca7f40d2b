"""Train the denoiser and a site's prompt; draw image-label pairs from a prompt.

The network predicts the clean pair, not the noise: a small network need not carry noise through
(with velocity prediction the generated images of the same budget stayed grainy). The squared error
is weighted by 1 / (noise level)^2, which makes it the velocity's error (Salimans and Ho 2022,
arXiv:2202.00512), up to a bound. Cosine schedule (Nichol and Dhariwal 2021, arXiv:2102.09672) and
DDIM sampling (Song et al. 2021, arXiv:2010.02502) are MONAI's.
Earlier sites are kept alive in one of three ways (`denoiser.mode` of the plan):

    replay    the denoiser trains on; half of each batch is generated under earlier prompts
    distill   likewise, but the target on the generated half is what the previous denoiser predicts
              (generative distillation, Masip et al. 2023, arXiv:2311.14028)
    frozen    after the first site the denoiser stays as it is; only the new prompt trains

Earlier sites' prompts never change. What travels is the running average of the weights.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from monai.networks.schedulers import DDIMScheduler
from torch import Tensor, nn

from wardround.shared.errors import TrainingError
from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.denoiser import Denoiser, join, separate
from wardround.site_client.learning.pool import Batch, Pool, draw

# B batch, C channels, X spatial axes, P prompt tokens, W prompt width

DRAW_BATCH = 32
MAX_WEIGHT = 20.0  # of a sample's error, against steps that are almost clean


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """An earlier site as the denoiser remembers it: its prompt (P, W) and pairs drawn from it."""

    prompt_PW: Tensor
    pairs: Pool


def new_schedule(plan: StudyPlan) -> DDIMScheduler:
    """Return the noise schedule; its offset makes few-step sampling begin at pure noise."""
    config = plan.denoiser
    schedule = DDIMScheduler(
        num_train_timesteps=config.timesteps,
        schedule="cosine",
        prediction_type="sample",
        clip_sample=True,
        steps_offset=config.timesteps // config.sampling_steps - 1,
    )
    schedule.set_timesteps(config.sampling_steps)
    return schedule


@torch.no_grad()
def draw_pairs(
    denoiser: Denoiser,
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
    schedule = new_schedule(plan)
    num_classes, task = len(plan.task.classes), plan.task
    drawn: list[Tensor] = []
    for first in range(0, count, DRAW_BATCH):
        size = min(DRAW_BATCH, count - first)
        x = torch.randn(
            (size, task.input_channels + num_classes, *task.sample_size), generator=generator
        )
        context = prompt_PW.expand(size, -1, -1)
        for t in schedule.timesteps:
            with precision_of(plan):
                clean = denoiser(x, t.expand(size), context)
            x, _ = schedule.step(clean.float(), int(t), x)
        drawn.append(x)
        watch(first + size, count)
    return separate(torch.cat(drawn), num_classes)


def train_denoiser(
    denoiser: Denoiser,
    prompt_PW: Tensor,
    *,
    own: Pool,
    earlier: Sequence[Remembered],
    plan: StudyPlan,
    generator: torch.Generator,
    watch: Callable[[int, int], None],
) -> tuple[Denoiser, Tensor, float]:
    """Train the denoiser and the visited site's prompt.

    Args:
        denoiser: As it arrived; not changed.
        prompt_PW: Where the new prompt starts, (P, W).
        own: The site's training samples.
        earlier: Earlier sites' prompts and generated pairs; empty at the first site.
        plan: Mode, steps, batch size, learning rates.
        generator: The stream of every draw.
        watch: Called with (step, steps) after each step.

    Returns:
        The averaged denoiser and prompt (P, W), and the mean loss of the last tenth of steps.

    Raises:
        TrainingError: The loss stopped being finite.
    """
    config = plan.denoiser
    steps = config.steps if earlier else config.first_steps
    student, prompt = copy.deepcopy(denoiser).train(), nn.Parameter(prompt_PW.clone())
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
    average = _Average(student, prompt, config.ema_decay)
    batches = _Batches(own, () if frozen else earlier, plan, generator)
    losses: list[float] = []
    for step in range(steps):
        loss = batches.loss(student, denoiser if config.mode == "distill" else None, prompt)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([*student.parameters(), prompt], 1.0)
        optimiser.step()
        schedule.step()
        average.update(student, prompt)
        losses.append(float(loss.detach()))
        if not torch.isfinite(loss.detach()):
            raise TrainingError(
                f"the denoiser's loss is {losses[-1]} at step {step + 1} of {steps}. "
                f"Lower denoiser.learning_rate (= {config.learning_rate})."
            )
        watch(step + 1, steps)
    tail = losses[-max(1, steps // 10) :]
    return average.denoiser.eval().requires_grad_(False), average.prompt_PW, sum(tail) / len(tail)


def with_fewer_steps(plan: StudyPlan, halvings: int) -> StudyPlan:
    """Return the plan with the denoiser's steps halved so often, never below one."""
    config = plan.denoiser
    fewer = {
        "first_steps": max(1, config.first_steps >> halvings),
        "steps": max(1, config.steps >> halvings),
    }
    return plan.model_copy(update={"denoiser": config.model_copy(update=fewer)})


def sample_errors(
    denoiser: nn.Module,
    pairs_BCX: Tensor,
    prompts_BPW: Tensor,
    *,
    plan: StudyPlan,
    schedule: DDIMScheduler,
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
    with precision_of(plan):
        predicted_BCX = denoiser(noisy_BCX, t_B, prompts_BPW)
    weight_B = (1 / (1 - schedule.alphas_cumprod[t_B])).clamp(max=MAX_WEIGHT)
    error_B = (predicted_BCX.float() - target_BCX).pow(2).flatten(1).mean(1)
    errors_B: Tensor = weight_B * error_B
    return errors_B


class _Batches:
    """Draw noisy batches: the site's own samples, half of them generated ones of earlier sites."""

    def __init__(
        self, own: Pool, earlier: Sequence[Remembered], plan: StudyPlan, generator: torch.Generator
    ) -> None:
        self.own, self.earlier, self.plan, self.generator = own, earlier, plan, generator
        self.schedule = new_schedule(plan)

    def loss(self, student: Denoiser, teacher: Denoiser | None, prompt_PW: Tensor) -> Tensor:
        """Return the weighted squared error of the predicted pairs over one batch."""
        pairs_BCX, prompts_BPW, generated_B = self._draw(prompt_PW)

        def taught(noisy_BCX: Tensor, t_B: Tensor) -> Tensor:
            target_BCX = pairs_BCX.clone()
            if teacher is not None and bool(generated_B.any()):
                with torch.no_grad(), precision_of(self.plan):
                    said = teacher(
                        noisy_BCX[generated_B], t_B[generated_B], prompts_BPW[generated_B]
                    )
                target_BCX[generated_B] = said.float()
            return target_BCX

        errors_B = sample_errors(
            student,
            pairs_BCX,
            prompts_BPW,
            plan=self.plan,
            schedule=self.schedule,
            generator=self.generator,
            target=taught,
        )
        return errors_B.mean()

    def _draw(self, prompt_PW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        size, sample_size = self.plan.denoiser.batch_size, self.plan.task.sample_size
        num_generated = size // 2 if self.earlier else 0
        parts = [self._joined(draw([self.own], size - num_generated, sample_size, self.generator))]
        prompts = [prompt_PW.expand(size - num_generated, -1, -1)]
        if num_generated:
            pools = [site.pairs for site in self.earlier]
            replayed = draw(pools, num_generated, sample_size, self.generator)
            parts.append(self._joined(replayed))
            prompts.append(torch.stack([site.prompt_PW for site in self.earlier])[replayed.group_B])
        generated_B = torch.arange(size) >= size - num_generated
        return torch.cat(parts), torch.cat(prompts), generated_B

    def _joined(self, batch: Batch) -> Tensor:
        return join(batch.images_BCX, batch.targets_BKX)


class _Average:
    """The running average of weights and prompt, with a warm-up so that it forgets the start."""

    def __init__(self, denoiser: Denoiser, prompt: Tensor, decay: float) -> None:
        self.denoiser, self.prompt_PW = copy.deepcopy(denoiser), prompt.detach().clone()
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, denoiser: Denoiser, prompt: Tensor) -> None:
        self.updates += 1
        step = averaging_step(self.decay, self.updates)
        for kept, current in zip(self.denoiser.parameters(), denoiser.parameters(), strict=True):
            kept.lerp_(current, step)
        self.prompt_PW.lerp_(prompt, step)


def averaging_step(decay: float, updates: int) -> float:
    """Return how far a running average moves towards the value of its `updates`-th update."""
    return 1 - min(decay, updates / (updates + 10))


def warm_then_fall(step: int, steps: int) -> float:
    """Return the share of the learning rate at `step` of `steps`, from 0."""
    warm = max(1, steps // 20)
    return min(1.0, (step + 1) / warm) * max(
        0.05, 1 - max(0, step - steps // 2) / max(1, steps - steps // 2)
    )


def precision_of(plan: StudyPlan) -> torch.autocast:
    """Return the context in which the denoiser computes as exactly as the plan says."""
    return torch.autocast("cpu", torch.bfloat16, enabled=plan.compute.precision == "bfloat16")
