"""MLDG: a step for some sites must serve the others (meta-learning domain generalisation).

Li et al. 2018 (arXiv:1710.03463), algorithm 1. At each step the sites at hand, the visited one and
K real cases of each earlier one, are divided at random into meta-train A and meta-test B:

    L(theta; A) + mldg * L(theta - alpha g_A; B)

The paper differentiates through the inner step (`method.order = "second"`); dropping the second
derivatives is what later work does (Dou et al. 2019, arXiv:1910.13580; Gulrajani and Lopez-Paz
2021, arXiv:2007.01434). At the first site A and B are random halves of the batch. Real cases of
other sites are kept: simulation only.
"""

import torch
from torch import nn

from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning.alignment import add, gradient_of, meta_gradient
from wardround.site_client.learning.methods.groups import split_sites
from wardround.site_client.learning.methods.method import Gradient, Method, ReplaySource, memoryless
from wardround.site_client.learning.pool import Batch


def meta_learning_gradient(
    segmenter: nn.Module,
    incoming: Batch,
    replay: Batch | None,
    config: MethodConfig,
    generator: torch.Generator,
) -> Gradient:
    """Return the gradient of both losses; mldg = 0 trains on the meta-train sites alone."""
    train, test = split_sites(incoming, replay, generator)
    loss, g_train = gradient_of(segmenter, train)
    test_loss, g_test = meta_gradient(segmenter, test, train, g_train, config)
    return Gradient(
        tensors=add(g_train, g_test, weights=(1.0, config.mldg)),
        loss=loss + config.mldg * test_loss,
    )


MLDG = Method(name="mldg", replay=ReplaySource.EXEMPLARS, begin=memoryless(meta_learning_gradient))
