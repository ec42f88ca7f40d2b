"""DER++: go on saying about kept cases what the network said of them then. Simulation only.

Dark experience replay, Buzzega et al. 2020 (arXiv:2004.07211), eq. 6, per pixel instead of per
image: the memory holds K real cases of each earlier site with their labels and with logits z,

    L(theta; I) + derpp * mean (f_theta(x) - z)^2 + derpp_labels * L(theta; M)

z is what the segmenter said as it left the case's site; the paper stores logits along the way, from
a stream without sites. Both terms share one batch M, where the paper draws two. A case that is
mirrored has its logits mirrored; under the intensity stack z stays that of the image as it was.
"""

import torch
from torch import nn
from torch.nn import functional as F

from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning.alignment import add, cosine, gradient_of
from wardround.site_client.learning.exemplars import drawn_with_logits
from wardround.site_client.learning.methods.method import Gradient, Method, ReplaySource, memoryless
from wardround.site_client.learning.pool import Batch
from wardround.site_client.learning.segmenter import segmentation_loss


def dark_gradient(
    segmenter: nn.Module,
    incoming: Batch,
    replay: Batch | None,
    config: MethodConfig,
    _generator: torch.Generator,
) -> Gradient:
    """Return the gradient of the three terms; derpp = 0 is exemplar replay, exactly."""
    loss, tensors = gradient_of(segmenter, incoming)
    if replay is None:
        return Gradient(tensors=tensors, loss=loss)
    if replay.logits_BKX is None:
        raise TypeError("dark experience replay needs the logits of what it replays")
    logits_BKX = segmenter(replay.images_BCX)
    remembered = config.derpp * F.mse_loss(logits_BKX, replay.logits_BKX)
    remembered = remembered + config.derpp_labels * segmentation_loss(
        logits_BKX, replay.targets_BKX
    )
    replay_tensors = torch.autograd.grad(remembered, list(segmenter.parameters()))
    return Gradient(
        tensors=add(tensors, replay_tensors),
        loss=loss + float(remembered.detach()),
        cosine=cosine(tensors, replay_tensors),
    )


DERPP = Method(
    name="derpp",
    replay=ReplaySource.EXEMPLARS,
    begin=memoryless(dark_gradient),
    keep=drawn_with_logits,
    keeps_segmenters=True,
)
