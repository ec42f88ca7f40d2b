"""Learning without forgetting: on the new site's images, go on saying what the network said before.

Li and Hoiem 2016 (arXiv:1606.09282), eqs. 2 and 3, per pixel instead of per image:

    L(theta; I) + lwf * T^2 * KL(softmax(f_arrived(x) / T) || softmax(f_theta(x) / T))

with T = 2 as in the paper, the mean over pixels, and T^2 so that its gradient does not shrink with
T (Hinton et al. 2015, arXiv:1503.02531). The previous network is the segmenter that arrives, so
nothing more has to travel. At the first site nothing was learned before, and it is fine-tuning.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wardround.site_client.learning.methods.finetune import incoming_gradient
from wardround.site_client.learning.methods.method import (
    Arrival,
    Gradient,
    Method,
    ReplaySource,
    State,
)
from wardround.site_client.learning.pool import Batch
from wardround.site_client.learning.segmenter import segmentation_loss

TEMPERATURE = 2.0


def distillation(logits_BKX: Tensor, taught_BKX: Tensor) -> Tensor:
    """Return T^2 times the mean over pixels of KL(taught || said), both softened by T."""
    said = F.log_softmax(logits_BKX / TEMPERATURE, dim=1)
    taught = F.log_softmax(taught_BKX / TEMPERATURE, dim=1)
    divergence_BX = (taught.exp() * (taught - said)).sum(dim=1)
    return TEMPERATURE**2 * divergence_BX.mean()


class _Lwf:
    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.teacher: nn.Module = copy.deepcopy(arrival.segmenter).requires_grad_(False)

    def gradient(
        self, incoming: Batch, replay: Batch | None, generator: torch.Generator
    ) -> Gradient:
        segmenter, config = self.arrival.segmenter, self.arrival.plan.method
        if self.arrival.is_first:
            return incoming_gradient(segmenter, incoming, replay, config, generator)
        logits = segmenter(incoming.images_BCX)
        loss = segmentation_loss(logits, incoming.targets_BKX)
        loss = loss + config.lwf * distillation(logits, self.teacher(incoming.images_BCX))
        tensors = torch.autograd.grad(loss, list(segmenter.parameters()))
        return Gradient(tensors=tensors, loss=float(loss.detach()))

    def leave(self, _own: object, _replay: object, _generator: object) -> State:
        return {}


LWF = Method(name="lwf", replay=ReplaySource.NONE, begin=_Lwf)
