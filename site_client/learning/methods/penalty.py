"""A quadratic penalty on leaving the weights that arrived, shared by `ewc`, `mas` and `si`.

    L(theta; I) + strength / 2 * sum_i importance_i (theta_i - anchor_i)^2

The anchor is the segmenter as it arrived, so the importance alone has to travel: one tensor a
parameter, in the part `method`. Blank importance is zero, which is plain fine-tuning.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from wardround.shared.plan import StudyPlan, Task
from wardround.site_client.learning.alignment import Gradients, gradient_of
from wardround.site_client.learning.methods.method import Arrival, Gradient, State
from wardround.site_client.learning.pool import Batch, Pool, draw

NUM_SAMPLES = 64  # on which importance is measured, one by one


class Penalty:
    """The weights that arrived, and how much each of them matters.

    Args:
        arrival: Its state holds the importance, one tensor a parameter.
        strength: Factor of the penalty; 0 is plain fine-tuning, exactly.
    """

    def __init__(self, arrival: Arrival, strength: float) -> None:
        self.segmenter, self.strength = arrival.segmenter, strength
        self.names = [name for name, _ in arrival.segmenter.named_parameters()]
        self.importance = tuple(arrival.state[name] for name in self.names)
        self.anchor = tuple(weight.detach().clone() for weight in arrival.segmenter.parameters())

    @property
    def weights(self) -> Gradients:
        """Return a copy of the weights as they are."""
        return tuple(weight.detach().clone() for weight in self.segmenter.parameters())

    def gradient(self, incoming: Batch) -> tuple[Gradient, Gradients]:
        """Return the penalised gradient on a batch, and that of the plain loss beside it."""
        loss, plain = gradient_of(self.segmenter, incoming)
        pulled, extra = [], 0.0
        for gradient, weight, matters, anchor in zip(
            plain, self.segmenter.parameters(), self.importance, self.anchor, strict=True
        ):
            away = weight.detach() - anchor
            pulled.append(gradient + self.strength * matters * away)
            extra += self.strength / 2 * float((matters * away * away).sum())
        return Gradient(tensors=tuple(pulled), loss=loss + extra), plain

    def state(self, importance: Sequence[Tensor]) -> State:
        """Return importance, one tensor a parameter, under the names it travels with."""
        return dict(zip(self.names, importance, strict=True))


def blank_importance(_plan: StudyPlan, segmenter: nn.Module) -> State:
    """Return zero importance for every parameter."""
    return {name: torch.zeros_like(weight) for name, weight in segmenter.named_parameters()}


def singly(own: Sequence[Pool], task: Task, generator: torch.Generator) -> Iterator[Batch]:
    """Yield `NUM_SAMPLES` of the site's own samples, not augmented, in batches of one."""
    for index in range(NUM_SAMPLES):
        # One pool a draw, in turn: a batch of one would else be of a pool at random.
        yield draw([own[index % len(own)]], 1, task.sample_size, generator)
