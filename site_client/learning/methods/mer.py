"""MER: meta-experience replay, Reptile within and across batches of old and new. Simulation only.

Riemer et al. 2019 (arXiv:1810.11910), algorithm 1. Each of s batches mixes samples of the memory (K
real cases of each earlier site) with the visited site's. Through the items of a batch go plain
steps of length `alpha`, one item after another; the weights are then pulled back, so that a share
`mer_within` of the batch's way is left, and the next batch begins there. The whole way is that of
the meta-update across batches.

Adapted: an item is a few samples instead of one, cut from the step's samples in random order; the
mean of the gradients along the way is given to the optimiser that all methods share, in the place
of the paper's second interpolation; the memory is the exemplars, no reservoir.
"""

import torch
from torch import Tensor, nn

from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning.alignment import add, stepwise
from wardround.site_client.learning.methods.method import Gradient, Method, ReplaySource, memoryless
from wardround.site_client.learning.pool import Batch, concatenate


def meta_experience_gradient(
    segmenter: nn.Module,
    incoming: Batch,
    replay: Batch | None,
    config: MethodConfig,
    generator: torch.Generator,
) -> Gradient:
    """Return the mean gradient along the way; one batch of one item is plain mixed replay."""
    samples = incoming if replay is None else concatenate([incoming, replay])
    place_B = torch.randperm(len(samples), generator=generator)
    reached = tuple(torch.zeros_like(weight) for weight in segmenter.parameters())
    ways = []
    for batch_B in _cut(place_B, config.mer_batches):
        items = [samples.select(item_B) for item_B in _cut(batch_B, config.mer_items)]
        way = stepwise(segmenter, items, alpha=config.alpha, clip=config.clip, start=reached)
        reached = add(reached, way.reached, weights=(1 - config.mer_within, config.mer_within))
        ways.append(way)
    num_items = sum(way.num_steps for way in ways)
    return Gradient(
        tensors=add(*(way.tensors for way in ways), weights=[1 / num_items] * len(ways)),
        loss=sum(way.loss * way.num_steps for way in ways) / num_items,
    )


def _cut(place_B: Tensor, pieces: int) -> list[Tensor]:
    """Cut into `pieces` of nearly equal length, or as many as there are samples."""
    return list(place_B.tensor_split(min(pieces, len(place_B))))


MER = Method(name="mer", replay=ReplaySource.EXEMPLARS, begin=memoryless(meta_experience_gradient))
