"""SAMCL: sharpness-aware meta-continual learning, on kept samples. Simulation only.

After "Toward universal medical image registration via sharpness-aware meta-continual learning"
(MICCAI 2024, arXiv:2406.17575). From the weights goes a way of inner steps, one for each item of
the visited site's batch and a last one for a batch from the buffer; each follows the gradient where
the loss is worst nearby (`sharpness`). The weights then move along the way, as Reptile's do (Nichol
et al. 2018, arXiv:1803.02999), and the buffer is a reservoir over all samples met (`reservoir`).

Adapted, as in `mer`: the inner steps are plain ones of length `alpha`, clipped; what the way
gathered is the gradient for the optimiser that all methods share, in the place of the paper's Adam
steps and interpolation. The mean over the items and the step on the buffer count alike, as own and
replayed samples do in the other methods. The buffer holds earlier sites' samples alone: the visited
site's are at hand.
"""

from functools import partial

import torch
from torch import nn

from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning.alignment import add, stepwise
from wardround.site_client.learning.methods.method import Gradient, Method, ReplaySource, memoryless
from wardround.site_client.learning.pool import Batch
from wardround.site_client.learning.reservoir import in_reservoir
from wardround.site_client.learning.sharpness import sharp_gradient_at


def sharpness_aware_gradient(
    network: nn.Module,
    incoming: Batch,
    replay: Batch | None,
    config: MethodConfig,
    _generator: torch.Generator,
) -> Gradient:
    """Return what the way gathered; with one item, no replay and rho 0 it is fine-tuning."""
    ask = partial(sharp_gradient_at, rho=config.samcl_rho)
    items = [incoming.select(torch.tensor([index])) for index in range(len(incoming))]
    start = tuple(torch.zeros_like(weight) for weight in network.parameters())
    way = stepwise(network, items, alpha=config.alpha, clip=config.clip, start=start, gradient=ask)
    share = 1 / way.num_steps
    if replay is None:
        return Gradient(tensors=add(way.tensors, weights=[share]), loss=way.loss)
    last = stepwise(
        network, [replay], alpha=config.alpha, clip=config.clip, start=way.reached, gradient=ask
    )
    return Gradient(
        tensors=add(way.tensors, last.tensors, weights=(share, 1.0)), loss=way.loss + last.loss
    )


SAMCL = Method(
    name="samcl",
    replay=ReplaySource.EXEMPLARS,
    begin=memoryless(sharpness_aware_gradient),
    keep=in_reservoir,
)
