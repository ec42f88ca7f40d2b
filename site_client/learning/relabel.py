"""Who says what generated pairs show: their labels as drawn, or what a segmenter makes of them."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.inference import mirrored_probabilities, probabilities
from wardround.site_client.learning.pool import Pool


def relabelled(
    drawn: Sequence[Pool], labellers: Iterable[nn.Module], plan: StudyPlan
) -> tuple[list[Pool], float]:
    """Return the pools to replay, and how well their drawn labels agree with the labellers.

    Args:
        drawn: Pairs as they were drawn, a pool a site; at least one.
        labellers: A segmenter for each, in evaluation mode.
        plan: Whether the drawn labels stay (`replay.labels`), and whether flips augment.

    Returns:
        The pools, and the Dice of drawn labels against those given, all foreground as one.
    """
    label = mirrored_probabilities if plan.augmentation.flip else probabilities
    given = [
        label(labeller, pool.images_NCX, plan.task)
        for labeller, pool in zip(labellers, drawn, strict=True)
    ]
    agreement = _agreement(drawn, given)
    if plan.replay.labels == "joint":
        return list(drawn), agreement
    return [
        Pool(images_NCX=pool.images_NCX, targets_NKX=targets_NKX)
        for pool, targets_NKX in zip(drawn, given, strict=True)
    ], agreement


def _agreement(drawn: Sequence[Pool], given: Sequence[Tensor]) -> float:
    shown = torch.cat([pool.labels_NX for pool in drawn]) > 0
    found = torch.cat([targets_NKX.argmax(dim=1) for targets_NKX in given]) > 0
    total = int(shown.sum() + found.sum())
    return 2 * int((shown & found).sum()) / total if total else 1.0
