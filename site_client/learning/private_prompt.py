"""Train a site's prompt with differential privacy, case by case, the denoiser frozen: DP-SGD.

Abadi et al. 2016 (arXiv:1607.00133), with the case as the example: each step takes each case with
the plan's probability, by itself; what a case gives is the mean gradient over a fixed number of its
samples, clipped; the sum gets Gaussian noise. The optimiser, its schedule and the running average
see nothing but these sums.

A prompt enters the network as one row per sample, and no layer mixes samples. So the gradient by
the rows, which one backward pass gives, is the gradient of each sample: no hooks are needed, and
clipping is exact. The sum is divided by nothing: the number of cases is itself to be protected, and
Adam does not care for scale.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from wardround.shared.plan import StudyPlan
from wardround.site_client.data.jitter import jitter
from wardround.site_client.learning.averaging import averaging_step
from wardround.site_client.learning.denoiser import join
from wardround.site_client.learning.diffusion import new_schedule, sample_errors
from wardround.site_client.learning.generator_training import warm_then_fall
from wardround.site_client.learning.pool import Pool, draw
from wardround.site_client.privacy.secret_stream import SecretStream

# N cases, B samples, P prompt tokens, W prompt width

CASES_AT_ONCE = 8


def train_prompt_privately(
    denoiser: nn.Module,
    prompt_PW: Tensor,
    *,
    cases: Sequence[Pool],
    plan: StudyPlan,
    noise_multiplier: float,
    stream: SecretStream,
    watch: Callable[[int, int], None],
) -> Tensor:
    """Return the averaged prompt (P, W), trained for `denoiser.steps` steps.

    Args:
        denoiser: As it arrived, in evaluation mode; not changed.
        prompt_PW: Where the prompt starts, made without this site's cases.
        cases: The samples of each training case.
        plan: Steps, learning rate, clipping, sampling rate.
        noise_multiplier: Standard deviation of the noise, in clipping norms.
        stream: Of every draw: which cases, which samples, all noise.
        watch: Called with (step, steps) after each step.
    """
    config, steps, most = plan.denoiser, plan.denoiser.steps, plan.privacy.max_grad_norm
    prompt = nn.Parameter(prompt_PW.clone())
    optimiser = torch.optim.AdamW(
        [prompt], lr=config.prompt_learning_rate, weight_decay=0.0, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: warm_then_fall(step, steps)
    )
    average_PW = prompt_PW.detach().clone()
    generator = torch.Generator().manual_seed(stream.seed())
    for step in range(steps):
        is_taken = stream.uniform(len(cases)) < plan.privacy.sampling_rate
        taken = [cases[index] for index in np.flatnonzero(is_taken).tolist()]
        given_NPW = case_gradients(denoiser, prompt.detach(), taken, plan, generator)
        noise_PW = torch.from_numpy(stream.normal(tuple(prompt.shape)))
        prompt.grad = noisy_sum(given_NPW, most, noise_multiplier, noise_PW)
        optimiser.step()
        schedule.step()
        average_PW.lerp_(prompt.detach(), averaging_step(config.ema_decay, step + 1))
        watch(step + 1, steps)
    return average_PW


def case_gradients(
    denoiser: nn.Module,
    prompt_PW: Tensor,
    cases: Sequence[Pool],
    plan: StudyPlan,
    generator: torch.Generator,
) -> Tensor:
    """Return the gradient of each case's loss by the prompt, (N, P, W).

    Args:
        denoiser: In evaluation mode.
        prompt_PW: The prompt (P, W).
        cases: Those that were taken; there may be none.
        plan: Sample size, samples of a case, time steps, precision.
        generator: The stream of samples, time steps and diffusion noise.
    """
    each, schedule = plan.privacy.samples_per_case, new_schedule(plan)
    found = [prompt_PW.new_zeros((0, *prompt_PW.shape))]
    for first in range(0, len(cases), CASES_AT_ONCE):
        some = cases[first : first + CASES_AT_ONCE]
        batches = [draw([case], each, plan.task.sample_size, generator) for case in some]
        pairs_BCX = torch.cat([join(batch.images_BCX, batch.targets_BKX) for batch in batches])
        if plan.denoiser.jitter:
            pairs_BCX = jitter(pairs_BCX, plan.denoiser.jitter, generator)
        prompts_BPW = prompt_PW.expand(len(pairs_BCX), -1, -1).clone().requires_grad_()
        errors_B = sample_errors(
            denoiser, pairs_BCX, prompts_BPW, plan=plan, schedule=schedule, generator=generator
        )
        (rows_BPW,) = torch.autograd.grad(errors_B.sum(), prompts_BPW)
        found.append(rows_BPW.unflatten(0, (len(some), each)).mean(1))
    return torch.cat(found)


def noisy_sum(given_NPW: Tensor, most: float, noise_multiplier: float, noise_PW: Tensor) -> Tensor:
    """Return the sum of what each case gives, clipped to norm `most`, with noise, (P, W).

    Args:
        given_NPW: Gradients (N, P, W); one that is not finite counts as nought.
        most: The largest norm; may be infinite where there is no noise.
        noise_multiplier: Standard deviation of the noise in units of `most`.
        noise_PW: Standard normal numbers, float64.
    """
    given_NPW = given_NPW.double()
    is_finite_N = given_NPW.flatten(1).isfinite().all(1)
    given_NPW = given_NPW[is_finite_N]
    norm_N = given_NPW.flatten(1).norm(dim=1)
    clipped_NPW = given_NPW * (most / norm_N.clamp(min=1e-30)).clamp(max=1.0)[:, None, None]
    noise_PW = noise_PW * (noise_multiplier * most) if noise_multiplier else 0 * noise_PW
    summed_PW: Tensor = clipped_NPW.sum(0) + noise_PW
    return summed_PW.float()
