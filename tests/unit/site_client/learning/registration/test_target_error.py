"""The target registration error of known points under known displacements."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from wardround.shared.errors import DataError
from wardround.site_client.data.cases import Case
from wardround.site_client.learning.registration.target_error import (
    expect_points_of_all_or_none,
    in_halves,
    in_voxels,
    target_error_mm,
)

SPACING_MM = (2.0, 1.0, 5.0)


def a_case(name: str, size: tuple[int, int, int], points) -> Case:
    return Case(
        case_id=name,
        image_CHWD=np.zeros((1, *size), np.float32),
        label_HWD=np.zeros(size, np.uint8),
        fov_HWD=None,
        spacing_mm=SPACING_MM,
        points_PA=None if points is None else np.array(points, dtype=np.float64),
    )


def along(axis: int, halves: float, *size: int) -> torch.Tensor:
    """Return one displacement field of `size` that moves everything along one axis."""
    field = torch.zeros(1, len(size), *size)
    field[:, axis] = halves
    return field


def test_without_a_deformation_it_is_the_distance_in_millimetres() -> None:
    fixed = a_case("f", (8, 8, 4), [[1, 1, 1], [4, 4, 2]])
    moving = a_case("m", (8, 8, 4), [[1, 4, 1], [6, 4, 2]])

    error = target_error_mm(fixed, moving, torch.zeros(1, 3, 4, 4, 2), None)

    assert error == pytest.approx((3 * 1 + 2 * 2) / 2)


@pytest.mark.parametrize(("axis", "voxels"), [(0, 2), (1, -3), (2, 1)])
def test_a_volume_that_moves_as_its_points_did_has_none(axis: int, voxels: int) -> None:
    size = (8, 8, 4)
    there = np.array([[3.0, 4.0, 1.0], [2.5, 5.0, 2.0]])
    arrived = there + np.eye(3)[axis] * voxels
    field = along(axis, voxels / (size[axis] / 2), 4, 4, 2)

    found = target_error_mm(a_case("f", size, there), a_case("m", size, arrived), field, None)

    assert found == pytest.approx(0, abs=1e-5)


def test_grids_of_another_size_are_met_in_shares_of_a_side() -> None:
    """The middle of 8 pixels is at 3.5, that of 16 at 7.5."""
    fixed, moving = a_case("f", (8, 8, 1), [[3.5, 0, 0]]), a_case("m", (16, 8, 1), [[7.5, 0, 0]])

    assert target_error_mm(fixed, moving, torch.zeros(1, 2, 4, 4), [0]) == pytest.approx(0)
    assert in_halves(torch.tensor([[3.5, -0.5]]), (8, 8)).tolist() == [[0, -1]]
    voxels = torch.tensor([[1.0, 6.5], [0.0, 2.0]])
    torch.testing.assert_close(in_voxels(in_halves(voxels, (5, 9)), (5, 9)), voxels)


def test_between_pixels_the_displacement_is_interpolated() -> None:
    """On a grid of four over eight pixels, centres lie at 0.5, 2.5, 4.5 and 6.5."""
    field = torch.zeros(1, 2, 4, 4)
    field[0, 0, 1], field[0, 0, 2] = 0.0, 0.5  # of a half of eight: two pixels of 2 mm
    fixed = a_case("f", (8, 8, 1), [[3.5, 4, 0]])

    assert target_error_mm(fixed, fixed, field, [0]) == pytest.approx(2.0)


def test_in_slices_a_point_goes_with_the_slice_nearest_to_it() -> None:
    """Slice 2 of four goes with slice 1 of two; only its field moves anything."""
    fields = torch.cat([torch.zeros(2, 2, 4, 4), along(0, 0.25, 4, 4), torch.zeros(1, 2, 4, 4)])
    fixed = a_case("f", (8, 8, 4), [[3, 3, 1.6], [3, 3, 0]])
    moving = a_case("m", (8, 8, 2), [[4, 3, 1], [3, 3, 1]])

    error = target_error_mm(fixed, moving, fields, [0, 0, 1, 1])

    assert error == pytest.approx((0 + 5) / 2)  # the second point's slice is one off, of 5 mm


def test_none_or_all_have_points_and_as_many() -> None:
    cases = [a_case(name, (4, 4, 1), [[1, 1, 0]]) for name in "abc"]
    bare = [replace(case, points_PA=None) for case in cases]
    expect_points_of_all_or_none(list(pairwise(cases)), "ada")
    expect_points_of_all_or_none(list(pairwise(bare)), "ada")

    with pytest.raises(DataError, match=r"'ada': 1 of 2 held-out cases .* the first is 'b'"):
        expect_points_of_all_or_none([(cases[0], bare[1])], "ada")
    more = a_case("d", (4, 4, 1), [[1, 1, 0], [2, 2, 0]])
    with pytest.raises(DataError, match=r"'a' has 1 key points and case 'd'.* has 2"):
        expect_points_of_all_or_none([(cases[0], more)], "ada")
