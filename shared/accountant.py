"""How much differential privacy a training spends: Renyi DP of the sampled Gaussian mechanism.

Each step takes every case with probability q, clips what each gives to norm C, and adds Gaussian
noise of standard deviation noise_multiplier times C. Its Renyi divergence of order a, of data with
one case more or less, is log(A) / (a - 1) with (Mironov, Talwar, Zhang 2019, arXiv:1908.10530)

    A = E[((1 - q) + q exp(x / sigma - 1 / (2 sigma^2)))^a],   x standard normal,

which is integrated numerically here. Renyi DP adds up over steps and over visits; at the end it
becomes (epsilon, delta) by Canonne, Kamath, Steinke 2020 (arXiv:2004.00010), proposition 12. What
is found is a bound: the true epsilon is at most that.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

LEAST_NOISE = 0.5  # less is not asked for, whatever epsilon is allowed
MOST_NOISE = 1e6
_ORDERS = np.array([*(1 + x / 10 for x in range(1, 100)), *range(11, 64), 80, 96, 128, 192, 256])
_STEP, _TAIL = 0.1, 12.0  # of the integral, in standard deviations; its error is below 1e-16


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """A training: its noise, in clipping norms, how likely a step takes a case, its steps."""

    noise_multiplier: float
    sampling_rate: float
    steps: int


def epsilon_of(spendings: Iterable[Spending], delta: float) -> float:
    """Return the epsilon that all of these spend together, at `delta`; 0 for none.

    Args:
        spendings: In any order.
        delta: In (0, 1).
    """
    total = np.zeros_like(_ORDERS)
    for one in spendings:
        total += one.steps * _renyi_of_one_step(one.noise_multiplier, one.sampling_rate)
    if not total.any():
        return 0.0
    epsilons = total + np.log1p(-1 / _ORDERS) - (math.log(delta) + np.log(_ORDERS)) / (_ORDERS - 1)
    return max(0.0, float(epsilons.min()))


@lru_cache(maxsize=64)
def noise_for(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """Return the least noise multiplier, with three decimals, that spends at most `epsilon`.

    Raises:
        ValueError: None that could be used does.
    """

    def is_enough(noise: float) -> bool:
        one = Spending(noise_multiplier=noise, sampling_rate=sampling_rate, steps=steps)
        return epsilon_of([one], delta) <= epsilon

    least, most = LEAST_NOISE, LEAST_NOISE
    while not is_enough(most):
        least, most = most, 2 * most
        if most > MOST_NOISE:
            raise ValueError(
                f"no noise up to {MOST_NOISE:g} gives epsilon {epsilon:g} at delta {delta:g}"
            )
    while most - least > 5e-4:
        middle = (least + most) / 2
        least, most = (least, middle) if is_enough(middle) else (middle, most)
    return math.ceil(most * 1000) / 1000


@lru_cache(maxsize=256)
def _renyi_of_one_step(noise: float, rate: float) -> np.ndarray:
    """Return the Renyi divergence of each order."""
    x = np.arange(-_TAIL, _ORDERS[-1] / noise + _TAIL, _STEP)
    log_not_taken = math.log1p(-rate) if rate < 1 else -math.inf
    log_ratio = np.logaddexp(log_not_taken, math.log(rate) + x / noise - 1 / (2 * noise**2))
    log_terms = _ORDERS[:, None] * log_ratio - x**2 / 2
    largest = log_terms.max(axis=1)
    log_sum = largest + np.log(np.exp(log_terms - largest[:, None]).sum(axis=1))
    log_moment = log_sum + math.log(_STEP / math.sqrt(2 * math.pi))
    divergences: np.ndarray = np.maximum(log_moment, 0) / (_ORDERS - 1)
    return divergences
