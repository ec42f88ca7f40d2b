"""The running average of weights, which generalises better than where a training happens to end.

A warm-up lets it forget the start: its first updates count as much as the later ones.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


class RunningAverage:
    """Tensors that follow others.

    Args:
        kept: The averages, at first equal to `current`; changed in place.
        current: What is averaged, one tensor for each of `kept`; whoever trains changes them.
        decay: Share of the average that stays at each update, once warm, in [0, 1).
    """

    def __init__(self, kept: Iterable[Tensor], current: Iterable[Tensor], decay: float) -> None:
        self._pairs = list(zip(kept, current, strict=True))
        self._decay, self._updates = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Let the averages follow what the others have become."""
        self._updates += 1
        step = averaging_step(self._decay, self._updates)
        for kept, current in self._pairs:
            kept.lerp_(current, step)


def averaging_step(decay: float, updates: int) -> float:
    """Return how far a running average moves towards the value of its `updates`-th update."""
    return 1 - min(decay, updates / (updates + 10))
