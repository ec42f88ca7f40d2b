"""Synaptic intelligence: weights that did the learning on the way are held.

Zenke et al. 2017 (arXiv:1703.04200), eqs. 3 to 5:

    L(theta; I) + si * sum_i Omega_i (theta_i - theta*_i)^2
    omega = - sum over steps of g (theta_after - theta_before)       g: of the plain loss alone
    Omega <- Omega + omega / ((theta_end - theta_start)^2 + DAMPING)

The step is the one that the optimiser truly made. Where omega is negative it counts as zero: a
negative importance would reward drifting away without bound. DAMPING is the paper's.
"""

import torch

from wardround.site_client.learning.alignment import Gradients
from wardround.site_client.learning.methods.method import (
    Arrival,
    Gradient,
    Method,
    ReplaySource,
    State,
)
from wardround.site_client.learning.methods.penalty import Penalty, blank_importance
from wardround.site_client.learning.pool import Batch

DAMPING = 0.1


class _Si:
    def __init__(self, arrival: Arrival) -> None:
        self.penalty = Penalty(arrival, 2 * arrival.plan.method.si)
        self.path = [torch.zeros_like(weight) for weight in self.penalty.anchor]
        self.before: tuple[Gradients, Gradients] | None = None  # gradient and weights of a step

    def gradient(self, incoming: Batch, _replay: object, _generator: object) -> Gradient:
        self._follow()
        gradient, plain = self.penalty.gradient(incoming)
        self.before = (plain, self.penalty.weights)
        return gradient

    def leave(self, _own: object, _replay: object, _generator: object) -> State:
        self._follow()
        moved = zip(self.penalty.weights, self.penalty.anchor, strict=True)
        gained = [
            omega.clamp(min=0) / ((end - start) ** 2 + DAMPING)
            for omega, (end, start) in zip(self.path, moved, strict=True)
        ]
        return self.penalty.state(
            [old + new for old, new in zip(self.penalty.importance, gained, strict=True)]
        )

    def _follow(self) -> None:
        """Add what the step since the last gradient contributed."""
        if self.before is None:
            return
        for omega, g, old, new in zip(self.path, *self.before, self.penalty.weights, strict=True):
            omega -= g * (new - old)
        self.before = None


SI = Method(name="si", replay=ReplaySource.NONE, begin=_Si, blank=blank_importance)
