"""Online elastic weight consolidation: weights that the likelihood hangs on are held.

Penalty and Fisher: Kirkpatrick et al. 2017 (arXiv:1612.00796), eq. 3; one running Fisher for all
earlier sites, decayed by gamma: Schwarz et al. 2018 (arXiv:1805.06370), section 4.1:

    L(theta; I) + ewc / 2 * sum_i F_i (theta_i - theta*_i)^2        F <- ewc_decay * F + F_site

F_site is the mean over samples of the squared gradient of the log-likelihood of the sample's own
label (the empirical Fisher). A sample's log-likelihood is the mean over its pixels, so that F does
not grow with the image; the papers classify and leave that open.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


def fisher(segmenter: nn.Module, samples: Sequence[Batch]) -> Gradients:
    """Return the empirical Fisher diagonal over `samples`, batches of one; a tensor a parameter."""
    theta = list(segmenter.parameters())
    total: list[Tensor] = [torch.zeros_like(weight) for weight in theta]
    for sample in samples:
        negative = F.cross_entropy(segmenter(sample.images_BCX), sample.targets_BKX)
        for sum_, gradient in zip(total, torch.autograd.grad(negative, theta), strict=True):
            sum_ += gradient**2 / len(samples)
    return tuple(total)


class _Ewc:
    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.penalty = Penalty(arrival, arrival.plan.method.ewc)

    def gradient(self, incoming: Batch, _replay: object, _generator: object) -> Gradient:
        return self.penalty.gradient(incoming)[0]

    def leave(self, own: Sequence[Pool], _replay: object, generator: torch.Generator) -> State:
        plan = self.arrival.plan
        here = fisher(self.arrival.segmenter, list(singly(own, plan.task, generator)))
        decay = plan.method.ewc_decay
        return self.penalty.state(
            [decay * old + new for old, new in zip(self.penalty.importance, here, strict=True)]
        )


EWC = Method(name="ewc", replay=ReplaySource.NONE, begin=_Ewc, blank=blank_importance)
