"""Site-modulated diffusion replay with parallel gradient alignment (after arXiv:2406.18037).

Each step follows the gradient of

    L(theta; I) + L(theta; G)                      replay, G generated under earlier sites' prompts
    + lambda_o L(theta - alpha g_I; G')            orientational: a step for I must serve G'
    + lambda_a L(theta - alpha g_A; shift(B'))     arbitrary: a step for sites A must serve others

Both alignments start from the same theta ("parallel"); inner steps are shared where they can be. A
step is judged by samples that it was not made from, G' and B', another draw from the same sites (as
by the query set of MAML, Finn et al. 2017, arXiv:1703.03400). By default A are the earlier sites
and B' is I', so that the visited site and the others are aligned in either direction; with
`method.groups = "random"` A and B are random groups of the sites. At the first site there is no G,
and the step along g_I is judged by I'. `method.shift` gives B' another look; by default none.

At the end of a later visit the weights go a part of the way back (`outer_step.py`).

The paper's code was never published: weights, groups, the second draw, the shift and the outer step
are our reconstruction.
"""

from dataclasses import dataclass

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
from wardround.site_client.learning.methods.groups import other_sites, split_sites
from wardround.site_client.learning.methods.method import (
    Arrival,
    Gradient,
    Method,
    ReplaySource,
    State,
)
from wardround.site_client.learning.methods.shift import shifted
from wardround.site_client.learning.pool import Batch, Samples, concatenate


def aligned_gradient(
    segmenter: nn.Module,
    step: Samples,
    judges: Samples,
    config: MethodConfig,
    generator: torch.Generator,
) -> Gradient:
    """Return the gradient of the dual meta-objectives.

    With alpha = 0 it is weighted replay of I, G, G' and B', exactly; with both weights 1, of both
    draws together.

    Args:
        segmenter: Its weights are theta; they are not changed.
        step: I and G; no G at the first site.
        judges: I' and G', another draw; they judge the look-ahead steps.
        config: Weights, length of the look-ahead, shift.
        generator: Divides the sites into groups.
    """
    (incoming, replay), (other_incoming, other_replay) = step, judges
    loss, g_incoming = gradient_of(segmenter, incoming)
    terms: list[tuple[float, Gradients]] = [(1.0, g_incoming)]
    similarity = None
    group_a, group_b, g_a = incoming, other_incoming, g_incoming
    if replay is not None and other_replay is not None:
        replay_loss, g_replay = gradient_of(segmenter, replay)
        loss, similarity = loss + replay_loss, cosine(g_incoming, g_replay)
        terms.append((1.0, g_replay))
        if config.orientational:
            ahead = meta_gradient(segmenter, other_replay, incoming, g_incoming, config)[1]
            terms.append((config.orientational, ahead))
        group_a, g_a = replay, g_replay
        if config.arbitrary and config.groups == "random":
            group_a, _ = split_sites(incoming, replay, generator)
            group_b = other_sites(concatenate([other_incoming, other_replay]), group_a)
            g_a = gradient_of(segmenter, group_a)[1]
    if config.arbitrary:
        judging = shifted(group_b, group_a, config.shift or "none", generator)
        ahead = meta_gradient(segmenter, judging, group_a, g_a, config)[1]
        terms.append((config.arbitrary, ahead))
    weights = [weight for weight, _ in terms]
    return Gradient(
        tensors=add(*(g for _, g in terms), weights=weights), loss=loss, cosine=similarity
    )


@dataclass(frozen=True, slots=True)
class _Aligning:
    """One visit."""

    arrival: Arrival

    def gradient(
        self, incoming: Batch, replay: Batch | None, generator: torch.Generator
    ) -> Gradient:
        config, step = self.arrival.plan.method, (incoming, replay)
        is_aligned = config.orientational or config.arbitrary
        judges = self.arrival.draw(generator) if is_aligned else step
        return aligned_gradient(self.arrival.segmenter, step, judges, config, generator)

    def leave(self, _own: object, _replay: object, _generator: object) -> State:
        return {}


SMD = Method(name="smd", replay=ReplaySource.GENERATED, begin=_Aligning, takes_outer_step=True)
