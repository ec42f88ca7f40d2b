"""Draw from a denoiser in few steps: DPM-Solver++(2M), spaced evenly in the logarithm of SNR.

Lu et al. 2022 (arXiv:2211.01095), algorithm 2, for a network that predicts the clean pair. With
alpha the share of signal and sigma that of noise (alpha^2 + sigma^2 = 1) and
lambda = log(alpha / sigma), a step from s to t is

    x_t = sigma_t / sigma_s x_s - alpha_t (exp(-h) - 1) D        h = lambda_t - lambda_s

D is the prediction at s, carried on along its change since the step before; without that it is a
step of DDIM (Song et al. 2021, arXiv:2010.02502). The last step ends at the prediction itself.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

# B batch, C channels, X spatial axes, T the schedule's time steps

NOISE = -4.0  # lambda below which a pair is as good as noise alone
CLEAN = 0.02  # share of the schedule at which the last prediction is made


@torch.no_grad()
def sample(
    predict: Callable[[Tensor, int], Tensor],
    noise_BCX: Tensor,
    alphas_cumprod_T: Tensor,
    num_steps: int,
) -> Tensor:
    """Return what the predictions lead to from noise, in [-1, 1].

    Args:
        predict: Given a noisy batch and its time step, returns the clean batch.
        noise_BCX: Standard normal noise.
        alphas_cumprod_T: alpha^2 of every time step, falling.
        num_steps: How many predictions at most; fewer where the schedule has no more time steps.
    """
    x_BCX, lambda_T = noise_BCX, log_snr(alphas_cumprod_T)
    times = time_steps(alphas_cumprod_T, num_steps)
    before: tuple[int, Tensor] | None = None
    for s, t in itertools.pairwise(times):
        clean_BCX = predict(x_BCX, s).clamp(-1, 1)
        h = lambda_T[t] - lambda_T[s]
        direction_BCX = clean_BCX
        if before is not None:
            change = h / (2 * (lambda_T[s] - lambda_T[before[0]]))
            direction_BCX = clean_BCX + float(change) * (clean_BCX - before[1])
        alpha_t, sigma_t = alphas_cumprod_T[t].sqrt(), (1 - alphas_cumprod_T[t]).sqrt()
        kept = sigma_t / (1 - alphas_cumprod_T[s]).sqrt()
        x_BCX = float(kept) * x_BCX - float(alpha_t * torch.expm1(-h)) * direction_BCX
        before = s, clean_BCX
    return predict(x_BCX, times[-1]).clamp(-1, 1)


def time_steps(alphas_cumprod_T: Tensor, num_steps: int) -> list[int]:
    """Return the time steps of the predictions: from the last one to nearly clean, all different.

    Args:
        alphas_cumprod_T: As for `sample`.
        num_steps: At least 2.
    """
    last = len(alphas_cumprod_T) - 1
    lambda_T = log_snr(alphas_cumprod_T)
    clean = lambda_T[int(CLEAN * last)]
    wanted = torch.linspace(max(NOISE, float(lambda_T[last])), float(clean), num_steps)
    nearest = [int((lambda_T - value).abs().argmin()) for value in wanted[1:]]
    return sorted({last, *nearest}, reverse=True)


def log_snr(alphas_cumprod_T: Tensor) -> Tensor:
    """Return lambda = log(alpha / sigma) of every time step, float64."""
    signal_T = alphas_cumprod_T.double()
    return (signal_T / (1 - signal_T)).log() / 2
