"""Plain sequential fine-tuning: follow the site's own loss alone. The lower bound for memory."""

import torch
from torch import nn

from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning.alignment import gradient_of
from wardround.site_client.learning.methods.method import Gradient, Method, ReplaySource, memoryless
from wardround.site_client.learning.pool import Batch


def incoming_gradient(
    segmenter: nn.Module,
    incoming: Batch,
    _replay: Batch | None,
    _config: MethodConfig,
    _generator: torch.Generator,
) -> Gradient:
    """Return the gradient of L(theta; I), whatever else there is."""
    loss, tensors = gradient_of(segmenter, incoming)
    return Gradient(tensors=tensors, loss=loss)


FINETUNE = Method(name="finetune", replay=ReplaySource.NONE, begin=memoryless(incoming_gradient))
