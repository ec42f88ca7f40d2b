"""Who says what generated pairs show: their labels as drawn, or what a segmenter makes of them."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from wardround.shared.plan import StudyPlan
from wardround.site_client.learning.inference import mirrored_probabilities, probabilities
from wardround.site_client.learning.overlap import overlap
from wardround.site_client.learning.pool import Pool


def relabelled(
    drawn: Sequence[Pool], labellers: Iterable[nn.Module], plan: StudyPlan
) -> tuple[list[Pool], float]:
    """Return the pools to replay, and how well their drawn labels agree with the labellers.

    Args:
        drawn: Pairs as they were drawn, a pool a site; at least one.
        labellers: A segmenter for each, in evaluation mode.
        plan: Whether the drawn labels stay (`replay.labels`), which share of the pairs is kept
            (`replay.keep_share`), and whether flips augment.

    Returns:
        The pools, of each site the pairs whose drawn label agrees best with its labeller; and the
        Dice of all drawn labels against those given, all foreground as one.
    """
    label = mirrored_probabilities if plan.augmentation.flip else probabilities
    given = [
        label(labeller, pool.images_NCX, plan.task)
        for labeller, pool in zip(labellers, drawn, strict=True)
    ]
    agreement = _agreement(drawn, given)
    targets = given if plan.replay.labels != "joint" else [pool.targets_NKX for pool in drawn]
    kept = [
        _best(pool, said_NKX, plan.replay.keep_share)
        for pool, said_NKX in zip(drawn, given, strict=True)
    ]
    return [
        Pool(images_NCX=pool.images_NCX[which_N], targets_NKX=target_NKX[which_N])
        for pool, target_NKX, which_N in zip(drawn, targets, kept, strict=True)
    ], agreement


def _best(pool: Pool, said_NKX: Tensor, share: float) -> Tensor:
    """Return the places of the pairs that are replayed, rising: at least one."""
    count = max(1, round(share * len(pool)))
    agreement_N = overlap(_shown(pool.targets_NKX).flatten(1), _shown(said_NKX).flatten(1))
    return agreement_N.argsort(descending=True, stable=True)[:count].sort().values


def _agreement(drawn: Sequence[Pool], given: Sequence[Tensor]) -> float:
    drawn_P = torch.cat([_shown(pool.targets_NKX).flatten() for pool in drawn])
    given_P = torch.cat([_shown(said_NKX).flatten() for said_NKX in given])
    return float(overlap(drawn_P, given_P))


def _shown(targets_NKX: Tensor) -> Tensor:
    """Return where there is any foreground, (N, *X) bool."""
    return targets_NKX.argmax(dim=1) > 0
