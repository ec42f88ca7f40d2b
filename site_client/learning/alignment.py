"""Gradient alignment by look-ahead: the first-order identity behind the dual meta-objectives.

    L_B(theta - alpha g_A) = L_B(theta) - alpha <g_A, g_B> + O(alpha^2)

so lowering L_B at the looked-ahead weights also raises the inner product of the two gradients
(MLDG, Li et al. 2018; MER, Riemer et al. 2019; the SMG papers, arXiv:2206.06813 and 2406.18037,
name the dual meta-objectives but published no code: this is a reconstruction from their abstracts).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from wardround.shared.plan_method import Method as MethodConfig
from wardround.site_client.learning.objective import loss_on
from wardround.site_client.learning.pool import Batch

Gradients = tuple[Tensor, ...]
Order = Literal["first", "second", "explicit"]
# Loss and gradient on a batch at the weights minus a step.
GradientAt = Callable[[nn.Module, Batch, Gradients], tuple[float, Gradients]]


def gradient_of(segmenter: nn.Module, batch: Batch) -> tuple[float, Gradients]:
    """Return the loss on `batch` and its gradient at the weights, one tensor a parameter."""
    loss = loss_on(segmenter, segmenter(batch.images_BCX), batch)
    return float(loss.detach()), torch.autograd.grad(loss, list(segmenter.parameters()))


def look_ahead(
    segmenter: nn.Module,
    outer: Batch,
    *,
    inner: Gradients | Batch,
    alpha: float,
    clip: float,
    order: Order = "first",
) -> tuple[float, Gradients]:
    """Return loss and gradient on `outer` after one look-ahead step along `inner`.

    Args:
        segmenter: Its weights are theta; they are not changed.
        outer: Batch B of the identity.
        inner: The gradient g_A at theta where it is known already (first order only), or batch A.
        alpha: Length of the step; 0 gives the plain gradient on `outer`, exactly.
        clip: Norm to which g_A is clipped before the step.
        order: "first" applies the gradient found at the looked-ahead weights to theta as it is;
            "second" differentiates through the step; "explicit" takes no step and penalises the
            inner product itself, the right-hand side of the identity.

    Returns:
        The loss at theta - alpha * clip(g_A), or where explicit the loss at theta minus
        alpha * <clip(g_A), g_B>; and its gradient, one tensor a parameter.
    """
    if order != "first":
        if not isinstance(inner, Batch):
            raise TypeError(f"order '{order}' needs the inner batch, not its gradient")
        differentiate = _second_order if order == "second" else _explicit
        return differentiate(segmenter, outer, inner, alpha=alpha, clip=clip)
    direction = inner if not isinstance(inner, Batch) else gradient_of(segmenter, inner)[1]
    step = tuple(alpha * part for part in clipped(direction, clip))
    return gradient_at(segmenter, outer, step)


def gradient_at(segmenter: nn.Module, batch: Batch, step: Gradients) -> tuple[float, Gradients]:
    """Return the loss on `batch` and its gradient at the weights minus `step`."""
    moved = {
        name: (weight.detach() - part).requires_grad_()
        for (name, weight), part in zip(segmenter.named_parameters(), step, strict=True)
    }
    said_BKX = functional_call(segmenter, moved, (batch.images_BCX,))
    loss = loss_on(segmenter, said_BKX, batch)
    return float(loss.detach()), torch.autograd.grad(loss, list(moved.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way of plain steps through batches, one after another.

    Attributes:
        loss: Mean over the batches, each where its step began.
        tensors: Sum of the steps' gradients, as clipped.
        reached: Where the way ends: what is to be taken off the weights.
        num_steps: How many batches.
    """

    loss: float
    tensors: Gradients
    reached: Gradients
    num_steps: int


def stepwise(
    segmenter: nn.Module,
    batches: Sequence[Batch],
    *,
    alpha: float,
    clip: float,
    start: Gradients,
    gradient: GradientAt = gradient_at,
) -> Way:
    """Go a step of length `alpha` on each batch in turn, without moving the weights.

    Args:
        segmenter: Its weights are theta; they are not changed.
        batches: At least one.
        alpha: Length of a step; 0 gives the sum of plain gradients, exactly.
        clip: Norm to which a step's gradient is clipped.
        start: The way begins at theta minus this.
        gradient: What a step follows.
    """
    reached, losses, steps = start, [], []
    for batch in batches:
        loss, tensors = gradient(segmenter, batch, reached)
        steps.append(clipped(tensors, clip))
        reached = add(reached, steps[-1], weights=(1.0, alpha))
        losses.append(loss)
    return Way(
        loss=sum(losses) / len(losses),
        tensors=add(*steps),
        reached=reached,
        num_steps=len(batches),
    )


def meta_gradient(
    segmenter: nn.Module, outer: Batch, inner: Batch, g_inner: Gradients, config: MethodConfig
) -> tuple[float, Gradients]:
    """Return loss and gradient on `outer` after the plan's look-ahead step for `inner`.

    Args:
        segmenter: Its weights are theta.
        outer: Batch B of the identity.
        inner: Batch A.
        g_inner: Its gradient at theta, where no second derivatives are needed.
        config: Length, clipping and order of the look-ahead.
    """
    return look_ahead(
        segmenter,
        outer,
        inner=g_inner if config.order == "first" else inner,
        alpha=config.alpha,
        clip=config.clip,
        order=config.order,
    )


def _second_order(
    segmenter: nn.Module, outer: Batch, inner: Batch, *, alpha: float, clip: float
) -> tuple[float, Gradients]:
    step = clipped(_traced(segmenter, inner)[1], clip)
    weights = dict(segmenter.named_parameters())
    ahead = {
        name: weight - alpha * g for (name, weight), g in zip(weights.items(), step, strict=True)
    }
    loss = loss_on(segmenter, functional_call(segmenter, ahead, (outer.images_BCX,)), outer)
    return float(loss.detach()), torch.autograd.grad(loss, list(weights.values()))


def _explicit(
    segmenter: nn.Module, outer: Batch, inner: Batch, *, alpha: float, clip: float
) -> tuple[float, Gradients]:
    step = clipped(_traced(segmenter, inner)[1], clip)
    loss, g_outer = _traced(segmenter, outer)
    objective = loss - alpha * inner_product(step, g_outer)
    return float(objective.detach()), torch.autograd.grad(objective, list(segmenter.parameters()))


def _traced(segmenter: nn.Module, batch: Batch) -> tuple[Tensor, Gradients]:
    """Return loss and gradient on `batch`, both to be differentiated on."""
    loss = loss_on(segmenter, segmenter(batch.images_BCX), batch)
    return loss, torch.autograd.grad(loss, list(segmenter.parameters()), create_graph=True)


def clipped(gradients: Gradients, clip: float) -> Gradients:
    """Return the gradients scaled down to a joint norm of at most `clip`."""
    norm = torch.sqrt(inner_product(gradients, gradients))
    scale = torch.clamp(clip / (norm + 1e-12), max=1.0)
    return tuple(gradient * scale for gradient in gradients)


def inner_product(first: Gradients, second: Gradients) -> Tensor:
    """Return the inner product over all parameters, a scalar tensor."""
    return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()


def cosine(first: Gradients, second: Gradients) -> float:
    """Return the cosine of the angle between two gradients, in [-1, 1]; 0 where one vanishes."""
    norms = torch.sqrt(inner_product(first, first) * inner_product(second, second))
    if not float(norms):
        return 0.0
    return float((inner_product(first, second) / norms).clamp(-1, 1))


def add(*terms: Gradients, weights: Sequence[float] | None = None) -> Gradients:
    """Return the weighted sum of gradients (weights 1 where not given)."""
    factors = weights or [1.0] * len(terms)
    return tuple(
        torch.stack([factor * tensor for factor, tensor in zip(factors, tensors, strict=True)]).sum(
            0
        )
        for tensors in zip(*terms, strict=True)
    )
