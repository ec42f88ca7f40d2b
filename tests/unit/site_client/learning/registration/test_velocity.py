"""Scaling and squaring, warping and folding against deformations that are known."""

import pytest
import torch

from wardround.site_client.learning.registration.velocity import (
    compose,
    folds,
    in_pixels,
    integrate,
    jacobian_determinant,
    of_pixels,
    on_grid,
    warp,
)


def constant(pixels: tuple[float, ...], size: tuple[int, ...]) -> torch.Tensor:
    """Return a field that says the same at each place, given in pixels."""
    field = torch.tensor(pixels, dtype=torch.float64)
    return of_pixels(field.reshape(1, -1, *([1] * len(size))).expand(1, -1, *size).clone())


def smooth(size: tuple[int, int]) -> torch.Tensor:
    """Return a swirl that is still at the edge, a few pixels strong."""
    y, x = (torch.linspace(0, torch.pi, side, dtype=torch.float64) for side in size)
    bump = torch.sin(y)[:, None] ** 2 * torch.sin(x)[None] ** 2
    return of_pixels(torch.stack([2 * bump, -3 * bump])[None])


def test_a_velocity_of_nought_moves_nothing() -> None:
    image = torch.rand(1, 2, 8, 12, generator=torch.Generator().manual_seed(0))
    still = integrate(torch.zeros(1, 2, 8, 12))

    assert not still.any()
    assert torch.allclose(warp(image, still), image, atol=1e-6)


def test_a_constant_velocity_is_a_translation() -> None:
    """Two rows down and one column left: what lies there is read, and the edge goes on."""
    image = torch.arange(64.0, dtype=torch.float64).reshape(1, 1, 8, 8)
    moved = warp(image, integrate(constant((2.0, -1.0), (8, 8))))

    assert torch.allclose(moved[0, 0, :6, 1:], image[0, 0, 2:, :-1])
    assert torch.allclose(moved[0, 0, 7, 1:], image[0, 0, 7, :-1])


def test_a_volume_is_translated_along_the_axis_that_is_named() -> None:
    volume = torch.arange(4.0 * 5 * 6, dtype=torch.float64).reshape(1, 1, 4, 5, 6)
    moved = warp(volume, integrate(constant((0.0, 0.0, 3.0), (4, 5, 6))))

    assert torch.allclose(moved[..., :3], volume[..., 3:])


def test_going_along_a_velocity_and_back_returns_nearly() -> None:
    velocity = smooth((32, 24))
    there_and_back = compose(integrate(velocity), integrate(-velocity))

    assert in_pixels(integrate(velocity)).abs().max() > 2
    assert in_pixels(there_and_back).abs().max() < 0.05  # of bilinear interpolation


def test_twice_the_velocity_is_the_deformation_done_twice() -> None:
    once = integrate(smooth((32, 24)))

    difference = integrate(2 * smooth((32, 24))) - compose(once, once)
    assert in_pixels(difference).abs().max() < 0.02


def test_shrinking_grows_exponentially_with_time() -> None:
    """dx/dt = -x / 2 from 0.4 comes to 0.4 exp(-1/2), in units of half a side."""
    grid = (torch.arange(64, dtype=torch.float64) + 0.5) / 32 - 1
    velocity = torch.stack([-0.5 * grid[:, None].expand(64, 64), torch.zeros(64, 64)])[None]
    came_to = grid[:, None] + integrate(velocity)[0, 0]

    inner = (grid.abs() < 0.4)[:, None].expand(64, 64)
    expected = (grid * torch.exp(torch.tensor(-0.5)))[:, None].expand(64, 64)
    assert torch.allclose(came_to[inner], expected[inner], atol=1e-3)


def test_a_field_holds_on_a_finer_grid_too() -> None:
    coarse = on_grid(integrate(constant((1.0, 0.0), (8, 8))), (16, 16))
    image = torch.arange(16.0, dtype=torch.float64).reshape(1, 1, 16, 1).expand(1, 1, 16, 16)

    assert torch.allclose(warp(image, coarse)[0, 0, :14, 0], image[0, 0, 2:, 0])


def test_pixels_and_halves_of_a_side_undo_each_other() -> None:
    field = torch.rand(1, 3, 4, 6, 10, generator=torch.Generator().manual_seed(0))

    assert torch.allclose(of_pixels(in_pixels(field)), field)
    assert in_pixels(torch.ones(1, 2, 8, 4)).amax((0, 2, 3)).tolist() == [4.0, 2.0]


@pytest.mark.parametrize(("factor", "folded"), [(0.5, 0.0), (-0.5, 0.0), (-2.0, 1.0)])
def test_the_determinant_is_that_of_the_stretching(factor: float, folded: float) -> None:
    """x + factor * x along one axis alone: the area grows by 1 + factor."""
    rows = factor * torch.arange(8, dtype=torch.float64)[:, None].expand(8, 8)
    displacement = of_pixels(torch.stack([rows, torch.zeros(8, 8)])[None])

    determinant = jacobian_determinant(displacement)
    assert torch.allclose(determinant, torch.full_like(determinant, 1 + factor))
    assert float(folds(displacement).double().mean()) == folded


def test_a_determinant_has_the_mixed_terms_of_a_shear() -> None:
    """(y + x, x + 2 y) has the derivative [[1, 1], [2, 1]]: determinant -1."""
    y, x = torch.meshgrid(*[torch.arange(6, dtype=torch.float64)] * 2, indexing="ij")
    sheared = of_pixels(torch.stack([x, 2 * y])[None])

    assert torch.allclose(jacobian_determinant(sheared), torch.full((1, 6, 6), -1.0).double())
