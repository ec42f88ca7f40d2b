"""How well masks agree: the Dice of tensors, for choices that training makes on its own grid.

What a study reports is scored on a case's own grid instead (`metrics`).
"""

import torch
from torch import Tensor


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Return the Dice of bool masks along their last axis, float64 in [0, 1].

    1 where both masks are empty.
    """
    both = (first & second).sum(-1)
    total = first.sum(-1) + second.sum(-1)
    return torch.where(total > 0, 2 * both / total.clamp(min=1).double(), 1.0)
