"""Site-modulated diffusion replay with parallel gradient alignment (after arXiv:2406.18037).

Each step follows the gradient of

    L(theta; I) + L(theta; G)                      replay, G generated under earlier sites' prompts
    + lambda_o L(theta - alpha g_I; G)             orientational: a step for I must serve G
    + lambda_a L(theta - alpha g_A; B)             arbitrary: random groups (A, B) of the sites

Both alignments start from the same theta ("parallel"); the inner step along g_I is shared. At the
first site there is no G and (A, B) are random halves of the batch. The paper's code was never
published: weights and the choice of groups are our reconstruction.
"""

import torch
from torch import Tensor, nn

from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning.alignment import Gradients, add, cosine, gradient_of, look_ahead
from wardround.site_client.learning.methods.method import Gradient, Method, ReplaySource, memoryless
from wardround.site_client.learning.pool import Batch, concatenate


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
            inner = g_incoming if config.order == "first" else incoming
            terms.append((config.orientational, _ahead(segmenter, replay, inner, config)))
    if config.arbitrary:
        group_a, group_b = _split(incoming, replay, generator)
        terms.append((config.arbitrary, _ahead(segmenter, group_b, group_a, config)))
    weights = [weight for weight, _ in terms]
    return Gradient(
        tensors=add(*(g for _, g in terms), weights=weights), loss=loss, cosine=similarity
    )


def _ahead(
    segmenter: nn.Module, outer: Batch, inner: Gradients | Batch, config: MethodConfig
) -> Gradients:
    return look_ahead(
        segmenter, outer, inner=inner, alpha=config.alpha, clip=config.clip, order=config.order
    )[1]


def _split(
    incoming: Batch, replay: Batch | None, generator: torch.Generator
) -> tuple[Batch, Batch]:
    """Divide the samples into two disjoint groups, whole sites where there are two or more."""
    samples = incoming if replay is None else concatenate([incoming, replay])
    sites = samples.group_B.unique()
    if len(sites) < 2:
        chosen_B = _random_half(torch.arange(len(samples)), generator)
        return samples.select(chosen_B), samples.select(~chosen_B)
    picked = sites[_random_half(sites, generator)]
    chosen_B = torch.isin(samples.group_B, picked)
    return samples.select(chosen_B), samples.select(~chosen_B)


def _random_half(items: Tensor, generator: torch.Generator) -> Tensor:
    """Return a mask with half of the items, rounded down, at least one."""
    mask = torch.zeros(len(items), dtype=torch.bool)
    mask[torch.randperm(len(items), generator=generator)[: max(1, len(items) // 2)]] = True
    return mask


SMD = Method(name="smd", replay=ReplaySource.GENERATED, begin=memoryless(aligned_gradient))
