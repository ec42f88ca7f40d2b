"""Site-modulated diffusion replay with parallel gradient alignment (after arXiv:2406.18037).

Each step follows the gradient of

    L(theta; I) + L(theta; G)                      replay, G generated under earlier sites' prompts
    + lambda_o L(theta - alpha g_I; G)             orientational: a step for I must serve G
    + lambda_a L(theta - alpha g_A; shift(B))      arbitrary: random groups (A, B) of the sites

Both alignments start from the same theta ("parallel"); the inner step along g_I is shared. At the
first site there is no G and (A, B) are random halves of the batch. `method.shift` gives B another
look; by default it has none. The paper's code was never published: weights, the choice of groups
and the shift are our reconstruction.
"""

import torch
from torch import nn

from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning.alignment import (
    Gradients,
    add,
    cosine,
    gradient_of,
    meta_gradient,
)
from wardround.site_client.learning.methods.groups import split_sites
from wardround.site_client.learning.methods.method import Gradient, Method, ReplaySource, memoryless
from wardround.site_client.learning.methods.shift import shifted
from wardround.site_client.learning.pool import Batch


def aligned_gradient(
    segmenter: nn.Module,
    incoming: Batch,
    replay: Batch | None,
    config: MethodConfig,
    generator: torch.Generator,
) -> Gradient:
    """Return the gradient of the dual meta-objectives; alpha = 0 is weighted replay, exactly."""
    loss, g_incoming = gradient_of(segmenter, incoming)
    terms: list[tuple[float, Gradients]] = [(1.0, g_incoming)]
    similarity = None
    if replay is not None:
        replay_loss, g_replay = gradient_of(segmenter, replay)
        loss, similarity = loss + replay_loss, cosine(g_incoming, g_replay)
        terms.append((1.0, g_replay))
        if config.orientational:
            ahead = meta_gradient(segmenter, replay, incoming, g_incoming, config)[1]
            terms.append((config.orientational, ahead))
    if config.arbitrary:
        group_a, group_b = split_sites(incoming, replay, generator)
        g_a = gradient_of(segmenter, group_a)[1]
        judging = shifted(group_b, group_a, config.shift or "none", generator)
        ahead = meta_gradient(segmenter, judging, group_a, g_a, config)[1]
        terms.append((config.arbitrary, ahead))
    weights = [weight for weight, _ in terms]
    return Gradient(
        tensors=add(*(g for _, g in terms), weights=weights), loss=loss, cosine=similarity
    )


SMD = Method(name="smd", replay=ReplaySource.GENERATED, begin=memoryless(aligned_gradient))
