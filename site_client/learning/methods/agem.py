"""A-GEM: do not step where it would hurt the episodic memory. Simulation only.

Chaudhry et al. 2019 (arXiv:1812.00420), eq. 11: g is the gradient on the visited site's batch,
g_ref that on a batch drawn from the memory of all earlier sites, here K real cases of each;

    g <- g - <g, g_ref> / <g_ref, g_ref> g_ref        where <g, g_ref> < 0

so that, to first order, the average loss on the memory never rises.
"""

import torch
from torch import nn

from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning.alignment import (
    Gradients,
    add,
    cosine,
    gradient_of,
    inner_product,
)
from wardround.site_client.learning.methods.method import Gradient, Method, ReplaySource, memoryless
from wardround.site_client.learning.pool import Batch


def project(gradients: Gradients, reference: Gradients) -> Gradients:
    """Return `gradients` without what points against `reference`; itself where nothing does."""
    product = float(inner_product(gradients, reference))
    if product >= 0:
        return gradients
    length = product / float(inner_product(reference, reference))
    return add(gradients, reference, weights=(1.0, -length))


def projected_gradient(
    segmenter: nn.Module,
    incoming: Batch,
    replay: Batch | None,
    _config: MethodConfig,
    _generator: torch.Generator,
) -> Gradient:
    """Return the gradient on the visited site, projected where it conflicts with the memory."""
    loss, tensors = gradient_of(segmenter, incoming)
    if replay is None:
        return Gradient(tensors=tensors, loss=loss)
    reference = gradient_of(segmenter, replay)[1]
    return Gradient(
        tensors=project(tensors, reference), loss=loss, cosine=cosine(tensors, reference)
    )


AGEM = Method(name="agem", replay=ReplaySource.EXEMPLARS, begin=memoryless(projected_gradient))
