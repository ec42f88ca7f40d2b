"""Sharpness-aware gradients: ask where the loss is worst nearby, and step from here.

Minimising the largest loss within a small ball prefers flat minima, which other sites' losses leave
less (Foret et al. 2021, arXiv:2010.01412). The ball is scaled by the size of each weight, so that
rescaling a layer changes nothing (ASAM, Kwon et al. 2021, arXiv:2102.11600):

    e = rho |p|^2 g / || |p| g ||          the gradient at p + e is followed from p
"""

from torch import nn

from wardround.site_client.learning.alignment import Gradients, add, gradient_at, inner_product
from wardround.site_client.learning.pool import Batch


def sharp_gradient_at(
    network: nn.Module, batch: Batch, step: Gradients, *, rho: float
) -> tuple[float, Gradients]:
    """Return the loss at the weights minus `step`, and the gradient where it is worst near there.

    Args:
        network: Its weights are not changed.
        batch: The samples.
        step: What is taken off the weights.
        rho: Radius of the ball; 0 gives the plain gradient, exactly.
    """
    loss, gradient = gradient_at(network, batch, step)
    if rho == 0:
        return loss, gradient
    weights = add(
        tuple(weight.detach() for weight in network.parameters()), step, weights=(1.0, -1.0)
    )
    up = ascent(weights, gradient, rho)
    return loss, gradient_at(network, batch, add(step, up, weights=(1.0, -1.0)))[1]


def ascent(weights: Gradients, gradient: Gradients, rho: float) -> Gradients:
    """Return e of the module's formula; nought where weights or gradient are."""
    scaled = tuple(weight.abs() * g for weight, g in zip(weights, gradient, strict=True))
    length = float(inner_product(scaled, scaled)) ** 0.5
    factor = rho / length if length > 0 else 0.0
    return tuple(
        factor * weight.abs() * towards for weight, towards in zip(weights, scaled, strict=True)
    )
