"""Memory-aware synapses: weights that the output hangs on are held; no labels are needed.

Aljundi et al. 2018 (arXiv:1711.09601), eqs. 2 to 4:

    L(theta; I) + mas * sum_i Omega_i (theta_i - theta*_i)^2
    Omega <- Omega + mean over samples of | d ||F(x)||^2 / d theta |

F(x) are the logits, as in the authors' code; the squared norm is the mean over pixels, so that
Omega does not grow with the image (the paper classifies and leaves that open).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wardround.site_client.learning.alignment import Gradients
from wardround.site_client.learning.methods.method import (
    Arrival,
    Gradient,
    Method,
    ReplaySource,
    State,
)
from wardround.site_client.learning.methods.penalty import Penalty, blank_importance, singly
from wardround.site_client.learning.pool import Batch, Pool


def sensitivity(segmenter: nn.Module, samples: Sequence[Batch]) -> Gradients:
    """Return how strongly the output over `samples`, batches of one, hangs on each parameter."""
    theta = list(segmenter.parameters())
    total: list[Tensor] = [torch.zeros_like(weight) for weight in theta]
    for sample in samples:
        norm = segmenter(sample.images_BCX).pow(2).sum(dim=1).mean()
        for sum_, gradient in zip(total, torch.autograd.grad(norm, theta), strict=True):
            sum_ += gradient.abs() / len(samples)
    return tuple(total)


class _Mas:
    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.penalty = Penalty(arrival, 2 * arrival.plan.method.mas)

    def gradient(self, incoming: Batch, _replay: object, _generator: object) -> Gradient:
        return self.penalty.gradient(incoming)[0]

    def leave(self, own: Sequence[Pool], _replay: object, generator: torch.Generator) -> State:
        samples = list(singly(own, self.arrival.plan.task, generator))
        here = sensitivity(self.arrival.segmenter, samples)
        return self.penalty.state(
            [old + new for old, new in zip(self.penalty.importance, here, strict=True)]
        )


MAS = Method(name="mas", replay=ReplaySource.NONE, begin=_Mas, blank=blank_importance)
