"""What a segmenter says of whole images and cases."""

from typing import cast

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from wardround.shared.plan import Task
from wardround.site_client.data.augment import MIRROR_AXIS
from wardround.site_client.data.cases import Case
from wardround.site_client.data.preprocess import to_native, to_samples

INFERENCE_BATCH = 32


def segment(segmenter: nn.Module, case: Case, task: Task) -> np.ndarray:
    """Return the predicted label map of `case`, uint8 (H, W, D), on the case's own grid."""
    images_NCX = to_samples(case, task).images_NCX
    return to_native(probabilities(segmenter, images_NCX, task), case, task)


@torch.no_grad()
def probabilities(segmenter: nn.Module, images_NCX: Tensor, task: Task) -> Tensor:
    """Return class probabilities (N, 1 + classes, *X) of whole images."""
    batches = images_NCX.split(INFERENCE_BATCH)
    return torch.cat([torch.softmax(_said(segmenter, batch, task), dim=1) for batch in batches])


@torch.no_grad()
def logits(segmenter: nn.Module, images_NCX: Tensor, task: Task) -> Tensor:
    """Return logits (N, 1 + classes, *X) of whole images."""
    return torch.cat([_said(segmenter, batch, task) for batch in images_NCX.split(INFERENCE_BATCH)])


def _said(segmenter: nn.Module, images_BCX: Tensor, task: Task) -> Tensor:
    """Return the logits; where the plan trains on patches, of overlapping ones, blended."""
    if task.patch_size is None:
        said: Tensor = segmenter(images_BCX)
        return said
    blended = sliding_window_inference(
        images_BCX, task.patch_size, INFERENCE_BATCH, segmenter, overlap=0.25, mode="gaussian"
    )
    return cast("Tensor", blended)


def mirrored_probabilities(segmenter: nn.Module, images_NCX: Tensor, task: Task) -> Tensor:
    """Return the mean of `probabilities` over each image and its mirror image, turned back.

    Averaging over what a network was trained to ignore makes truer labels (data distillation,
    Radosavovic et al. 2018, arXiv:1712.04440). Only for networks that saw flips in training.
    """
    seen_NKX = probabilities(segmenter, images_NCX, task)
    mirrored_NKX = probabilities(segmenter, images_NCX.flip(MIRROR_AXIS), task)
    return (seen_NKX + mirrored_NKX.flip(MIRROR_AXIS)) / 2
