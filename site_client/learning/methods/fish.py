"""Fish: match the gradients of the sites by stepping through them in turn. Simulation only.

Shi et al. 2022 (arXiv:2104.09937), algorithm 1: from a copy of the weights, one step of length
`alpha` on a batch of each domain, in random order; the weights then move towards where the copy
came to. Summed over the orders this is, to first order, the mean loss minus alpha / 2 times the
inner products of all pairs of gradients. Domains are the visited site and, for each earlier one, K
real cases.

The inner steps are plain and clipped as every look-ahead. The way that the copy went, over alpha,
is the gradient given to the optimiser that all methods share (as Nichol et al. 2018,
arXiv:1803.02999, do with Reptile's); the paper's interpolation is that with plain descent.
"""

import torch
from torch import nn

from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning.alignment import stepwise
from wardround.site_client.learning.methods.groups import by_site
from wardround.site_client.learning.methods.method import Gradient, Method, ReplaySource, memoryless
from wardround.site_client.learning.pool import Batch


def matched_gradient(
    segmenter: nn.Module,
    incoming: Batch,
    replay: Batch | None,
    config: MethodConfig,
    generator: torch.Generator,
) -> Gradient:
    """Return the way through the sites' batches; with one site it is fine-tuning, exactly."""
    sites = by_site(incoming, replay)
    turn = torch.randperm(len(sites), generator=generator).tolist()
    start = tuple(torch.zeros_like(weight) for weight in segmenter.parameters())
    way = stepwise(
        segmenter,
        [sites[place] for place in turn],
        alpha=config.alpha,
        clip=config.clip,
        start=start,
    )
    return Gradient(tensors=way.tensors, loss=way.loss)


FISH = Method(name="fish", replay=ReplaySource.EXEMPLARS, begin=memoryless(matched_gradient))
