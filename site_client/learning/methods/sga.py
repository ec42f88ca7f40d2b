"""Synchronous gradient alignment on kept cases, by Dual-Meta (after arXiv:2206.06813).

Xu et al. 2022 align the gradient of the visited site with that of a buffer of real cases, and those
of sites under simulated shift with each other, both by a look-ahead ("dual meta-objectives"):

    L(theta; I) + lambda_o L(theta - alpha g_I; M)            a step for I must serve the buffer M
    + lambda_a [L(theta; A) + L(theta - alpha g_A; shift(B))] and one for some sites the others

(A, B) are random groups of the sites at hand; `shift` is the intensity stack unless `method.shift`
says otherwise. At the first site
A = B = I, whose plain loss is there already. `diverse_buffer` chooses M: K real cases of each
earlier site, so it runs in a simulation alone. The paper published no code: weights, groups and
shift are our reconstruction. `smd` differs by generated pairs in the place of M and by their plain
loss.
"""

import torch
from torch import nn

from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning.alignment import Gradients, add, gradient_of, meta_gradient
from wardround.site_client.learning.diverse_buffer import diverse
from wardround.site_client.learning.methods.groups import split_sites
from wardround.site_client.learning.methods.method import Gradient, Method, ReplaySource, memoryless
from wardround.site_client.learning.methods.shift import shifted
from wardround.site_client.learning.pool import Batch


def dual_meta_gradient(
    segmenter: nn.Module,
    incoming: Batch,
    replay: Batch | None,
    config: MethodConfig,
    generator: torch.Generator,
) -> Gradient:
    """Return the gradient of the dual meta-objectives; see the limits in the tests."""
    loss, g_incoming = gradient_of(segmenter, incoming)
    terms: list[tuple[float, Gradients]] = [(1.0, g_incoming)]
    if replay is not None and config.orientational:
        ahead_loss, ahead = meta_gradient(segmenter, replay, incoming, g_incoming, config)
        terms.append((config.orientational, ahead))
        loss += config.orientational * ahead_loss
    if config.arbitrary:
        group_a, group_b, g_a = incoming, incoming, g_incoming
        if replay is not None:
            group_a, group_b = split_sites(incoming, replay, generator)
            loss_a, g_a = gradient_of(segmenter, group_a)
            terms.append((config.arbitrary, g_a))
            loss += config.arbitrary * loss_a
        judging = shifted(group_b, group_a, config.shift or "stack", generator)
        ahead_loss, ahead = meta_gradient(segmenter, judging, group_a, g_a, config)
        terms.append((config.arbitrary, ahead))
        loss += config.arbitrary * ahead_loss
    return Gradient(
        tensors=add(*(g for _, g in terms), weights=[weight for weight, _ in terms]), loss=loss
    )


SGA = Method(
    name="sga",
    replay=ReplaySource.EXEMPLARS,
    begin=memoryless(dual_meta_gradient),
    keep=diverse,
    keeps_segmenters=True,
)
