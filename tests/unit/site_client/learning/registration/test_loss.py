"""The loss of a velocity, term by term, where each is known."""

import pytest
import torch

from wardround.shared.plan_registration import Registration
from wardround.site_client.learning.pool import Batch
from wardround.site_client.learning.registration.loss import (
    bending_energy,
    overlap_loss,
    registration_loss,
)
from wardround.site_client.learning.registration.velocity import of_pixels

ONLY = {"ncc": 0.0, "dice": 0.0, "bending": 0.0}


def a_batch(fixed: torch.Tensor, moving: torch.Tensor) -> Batch:
    """Return a pair of images (H, W) in [-1, 1]; what is bright is the one class."""
    labels = [(image > 0).double() for image in (fixed, moving)]
    maps = [map_ for label in labels for map_ in (1 - label, label)]
    return Batch(
        images_BCX=torch.stack([fixed, moving])[None].double(),
        targets_BKX=torch.stack(maps)[None],
        group_B=torch.zeros(1, dtype=torch.long),
    )


@pytest.fixture
def square() -> torch.Tensor:
    image = torch.full((16, 16), -1.0)
    image[4:10, 5:11] = 1.0
    return image


def test_equal_images_that_do_not_move_lose_but_what_shows_nothing(square: torch.Tensor) -> None:
    """The labels overlap wholly; correlation is 1 in each window that shows the square's edge."""
    config = Registration(bending=1.0, window=3)
    batch, still = a_batch(square, square), torch.zeros(1, 2, 16, 16, dtype=torch.float64)
    windows_with_an_edge = 8 * 8 - 4 * 4  # one pixel around the square of 6, less its inside

    loss = float(registration_loss(still, batch, config))
    assert loss == pytest.approx(1 - windows_with_an_edge / 256)


def test_the_velocity_that_brings_the_square_back_has_no_overlap_loss(
    square: torch.Tensor,
) -> None:
    config = Registration(**{**ONLY, "dice": 1.0})
    batch = a_batch(square, square.roll(2, 0))
    down = of_pixels(torch.tensor([2.0, 0.0]).double().reshape(1, 2, 1, 1).expand(1, 2, 16, 16))

    still = float(registration_loss(torch.zeros_like(down), batch, config))
    assert still == pytest.approx(1 - 2 * 24 / 72)  # 4 of 6 rows of 6 pixels lie on each other
    assert float(registration_loss(down, batch, config)) == pytest.approx(0, abs=1e-9)
    assert float(registration_loss(-down, batch, config)) > still


def test_classes_that_a_sample_does_not_show_count_for_nothing() -> None:
    """Class 0 overlaps by 2 of 3 + 3; class 1 is in neither map of sample 0."""
    moved, fixed = torch.zeros(2, 2, 1, 4), torch.zeros(2, 2, 1, 4)
    moved[0, 0, 0, :3] = 1
    fixed[0, 0, 0, 1:] = 1
    moved[1, 1], fixed[1, 1] = 1, 1

    assert float(overlap_loss(moved, fixed)) == pytest.approx((1 - 2 * 2 / 6) / 2)
    assert float(overlap_loss(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4))) == 0


def test_bending_is_nought_for_what_is_linear_and_counts_second_derivatives() -> None:
    y, x = torch.meshgrid(*[torch.arange(6.0)] * 2, indexing="ij")

    assert float(bending_energy(torch.stack([3 * x - y, y])[None])) == pytest.approx(0, abs=1e-9)
    # y^2 bends by 2 along y in one of two components; x y by 1, once each way.
    assert float(bending_energy(torch.stack([y * y, y])[None])) == pytest.approx(2**2 / 2)
    assert float(bending_energy(torch.stack([x * y, y])[None])) == pytest.approx(2 * 1 / 2)


def test_faint_noise_in_the_background_is_no_correlation() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = [1e-4 * torch.rand(16, 16, generator=generator) - 1 for _ in range(2)]
    still = torch.zeros(1, 2, 16, 16, dtype=torch.float64)

    loss = registration_loss(still, a_batch(*noise), Registration(**{**ONLY, "ncc": 1.0}))
    assert float(loss) == pytest.approx(1, abs=1e-3)
