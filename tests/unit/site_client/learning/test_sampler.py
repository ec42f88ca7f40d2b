"""The sampler on pairs whose distribution is known, so that the way from noise is a formula."""

import itertools

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor

from wardround.site_client.learning.sampler import log_snr, sample, time_steps

SCHEDULE = DDPMScheduler(num_train_timesteps=1000, schedule="cosine").alphas_cumprod.double()
SPREAD = 0.2


def gaussian(noisy_BCX: Tensor, t: int) -> Tensor:
    """Return the mean of the clean pair, where pairs are normal with mean 0 and this spread."""
    signal = SCHEDULE[t]
    return signal.sqrt() * SPREAD**2 * noisy_BCX / (signal * SPREAD**2 + 1 - signal)


def where_it_leads(noise_BCX: Tensor) -> Tensor:
    """Return the prediction at the last time, where the flow keeps each pixel's quantile."""
    spread_T = (SCHEDULE * SPREAD**2 + 1 - SCHEDULE).sqrt()
    last = time_steps(SCHEDULE, 2)[-1]
    return gaussian(noise_BCX * spread_T[last] / spread_T[-1], last)


def noise() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((16, 1, 8, 8), generator=generator, dtype=torch.float64)


def error(num_steps: int) -> float:
    found = sample(gaussian, noise(), SCHEDULE, num_steps)
    return float((found - where_it_leads(noise())).abs().max())


def ddim(num_steps: int) -> Tensor:
    """Return what first-order steps through the same times lead to."""
    x_BCX, times = noise(), time_steps(SCHEDULE, num_steps)
    for s, t in itertools.pairwise(times):
        clean_BCX = gaussian(x_BCX, s)
        kept = ((1 - SCHEDULE[t]) / (1 - SCHEDULE[s])).sqrt()
        x_BCX = SCHEDULE[t].sqrt() * clean_BCX + kept * (x_BCX - SCHEDULE[s].sqrt() * clean_BCX)
    return gaussian(x_BCX, times[-1])


def test_one_constant_prediction_is_where_the_draw_ends() -> None:
    clean = torch.full((2, 1, 4, 4), 0.25, dtype=torch.float64)
    found = sample(lambda _x, _t: clean, torch.ones_like(clean), SCHEDULE, 5)
    assert torch.equal(found, clean)


def test_a_prediction_out_of_range_is_cut_to_it() -> None:
    far = torch.full((1, 1, 4, 4), 7.0, dtype=torch.float64)
    assert torch.equal(sample(lambda _x, _t: far, far, SCHEDULE, 4), torch.ones_like(far))


def test_two_steps_are_those_of_ddim() -> None:
    # There is no step before the first, and the last one ends at the prediction.
    assert torch.allclose(sample(gaussian, noise(), SCHEDULE, 2), ddim(2))


@pytest.mark.parametrize(("num_steps", "share"), [(6, 0.4), (12, 0.1), (48, 0.05)])
def test_the_second_order_is_nearer_to_the_solution_the_more_so_with_more_steps(
    num_steps: int, share: float
) -> None:
    first_order = float((ddim(num_steps) - where_it_leads(noise())).abs().max())
    assert error(num_steps) < share * first_order


@pytest.mark.parametrize("num_steps", [2, 6, 20])
def test_times_fall_from_the_noisiest_to_nearly_clean_in_even_steps_of_log_snr(num_steps) -> None:
    times = time_steps(SCHEDULE, num_steps)
    assert (times[0], times[-1]) == (999, 19)
    assert len(times) == num_steps
    gaps = log_snr(SCHEDULE)[times[1:]].diff()
    assert torch.allclose(gaps, gaps.mean().expand_as(gaps), atol=0.05)


def test_a_short_schedule_gives_as_many_steps_as_it_has() -> None:
    short = DDPMScheduler(num_train_timesteps=10, schedule="cosine").alphas_cumprod
    times = time_steps(short, 10)
    assert times == sorted(set(times), reverse=True)
    assert times[0] == 9
