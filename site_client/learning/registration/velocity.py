"""From a stationary velocity field to a deformation: scaling and squaring, warping, folding.

A velocity v that does not change with time moves each point along dx/dt = v(x); where the point is
at time 1 is exp(v)(x) = x + u(x). exp(v) is exp(v / 2^n) done 2^n times, and doing a deformation
twice doubles the time, so n compositions are enough (Arsigny et al. 2006, MICCAI). For smooth v the
deformation can be undone, by exp(-v), and folds nothing.

Fields are given in *halves of a side*: 2 moves a point from one edge of the image to the other,
whatever the grid, so that a field found on the working grid holds on a case's own grid too. A pixel
is a little square; its centre lies half a pixel inside the edge.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

# B batch, C channels, X spatial axes (two or three), A one number for each axis, in their order

SQUARINGS = 7


def integrate(velocity_BAX: Tensor) -> Tensor:
    """Return the displacement u of exp(v) = x + u(x), (B, A, *X), in halves of a side."""
    displacement_BAX: Tensor = velocity_BAX / 2**SQUARINGS
    for _ in range(SQUARINGS):
        displacement_BAX = compose(displacement_BAX, displacement_BAX)
    return displacement_BAX


def compose(first_BAX: Tensor, then_BAX: Tensor) -> Tensor:
    """Return the displacement of going along `first` and, from there, along `then`."""
    return first_BAX + warp(then_BAX, first_BAX)


def warp(values_BCX: Tensor, displacement_BAX: Tensor) -> Tensor:
    """Return the values that lie at x + u(x), linearly interpolated; beyond the edge those at it.

    Args:
        values_BCX: On any grid.
        displacement_BAX: u, in halves of a side; its grid is that of the result.
    """
    batch, axes = displacement_BAX.shape[:2]
    unmoved = torch.eye(axes, axes + 1, dtype=values_BCX.dtype).expand(batch, -1, -1)
    size = [batch, 1, *displacement_BAX.shape[2:]]
    places_BXA = F.affine_grid(unmoved, size, align_corners=False)
    # The grid counts axes from the last one.
    places_BXA = places_BXA + displacement_BAX.flip(1).movedim(1, -1)
    return F.grid_sample(values_BCX, places_BXA, padding_mode="border", align_corners=False)


def on_grid(field_BAX: Tensor, size: Sequence[int]) -> Tensor:
    """Return a field in halves of a side on another grid, linearly interpolated."""
    mode = "trilinear" if field_BAX.shape[1] == 3 else "bilinear"
    return F.interpolate(field_BAX, tuple(size), mode=mode, align_corners=False)


def in_pixels(field_BAX: Tensor) -> Tensor:
    """Return a field given in halves of a side in pixels of its grid."""
    return field_BAX * _half_sides(field_BAX)


def of_pixels(field_BAX: Tensor) -> Tensor:
    """Return a field given in pixels of its grid in halves of a side."""
    return field_BAX / _half_sides(field_BAX)


def folds(displacement_BAX: Tensor) -> Tensor:
    """Return where a deformation folds space, (B, *X): its Jacobian determinant is not positive.

    Derivatives are central differences, one-sided at the edge.
    """
    return jacobian_determinant(displacement_BAX) <= 0


def jacobian_determinant(displacement_BAX: Tensor) -> Tensor:
    """Return the determinant of the derivative of x + u(x), (B, *X); 1 where nothing moves."""
    moved_BAX, axes = in_pixels(displacement_BAX), displacement_BAX.shape[1]
    by_axis: Sequence[Tensor] = torch.gradient(moved_BAX, dim=list(range(2, 2 + axes)))
    jacobian_BXAA = torch.stack(list(by_axis), dim=2).movedim((1, 2), (-2, -1)) + torch.eye(axes)
    determinant_BX: Tensor = torch.linalg.det(jacobian_BXAA)
    return determinant_BX


def _half_sides(field_BAX: Tensor) -> Tensor:
    sides = torch.tensor(field_BAX.shape[2:], dtype=field_BAX.dtype) / 2
    return sides.reshape(1, -1, *([1] * len(sides)))
