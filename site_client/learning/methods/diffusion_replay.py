"""Generated replay without alignment: L(theta; I) + L(theta; G), the control for `smd`."""

import torch
from torch import nn

from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning.alignment import add, cosine, gradient_of
from wardround.site_client.learning.methods.method import Gradient, Method, ReplaySource, memoryless
from wardround.site_client.learning.pool import Batch


def replay_gradient(
    segmenter: nn.Module,
    incoming: Batch,
    replay: Batch | None,
    _config: MethodConfig,
    _generator: torch.Generator,
) -> Gradient:
    """Return the gradient of the loss on the visited site plus the loss on the replayed samples."""
    loss, tensors = gradient_of(segmenter, incoming)
    if replay is None:
        return Gradient(tensors=tensors, loss=loss)
    replay_loss, replay_tensors = gradient_of(segmenter, replay)
    return Gradient(
        tensors=add(tensors, replay_tensors),
        loss=loss + replay_loss,
        cosine=cosine(tensors, replay_tensors),
    )


DIFFUSION_REPLAY = Method(
    name="diffusion-replay", replay=ReplaySource.GENERATED, begin=memoryless(replay_gradient)
)
