"""Mixed amplitudes: what of an image goes and what stays, on waves whose spectrum is known."""

import math

import torch

from wardround.site_client.data.amplitude import amplitude_mixed

SIDE = 40


def wave(waves: int, height: float, shift: float = 0.0) -> torch.Tensor:
    """Return an image (1, 1, 40, 40) with so many waves along its first axis."""
    place = torch.arange(SIDE, dtype=torch.float64) / SIDE
    line = height * torch.cos(2 * math.pi * waves * place + shift)
    return line[:, None].expand(SIDE, SIDE)[None, None]


def mixed(image: torch.Tensor, look: torch.Tensor, share: float) -> torch.Tensor:
    return amplitude_mixed(image, look, torch.tensor([share], dtype=torch.float64))


def test_a_share_of_nought_gives_the_image_itself() -> None:
    image = wave(2, 0.3) + wave(7, 0.2)
    assert torch.allclose(mixed(image, wave(1, 0.9), 0.0), image)


def test_brightness_goes_and_contrast_of_slow_waves_goes_and_fast_ones_stay() -> None:
    image = 0.1 + wave(2, 0.2) + wave(7, 0.2)
    look = 0.3 + wave(2, 0.4) + wave(7, 0.02)
    assert torch.allclose(mixed(image, look, 1.0), 0.3 + wave(2, 0.4) + wave(7, 0.2))
    assert torch.allclose(mixed(image, look, 0.5), 0.2 + wave(2, 0.3) + wave(7, 0.2))


def test_where_things_are_is_the_images_own() -> None:
    image, look = wave(1, 0.2, shift=0.8), wave(1, 0.5, shift=2.0)
    assert torch.allclose(mixed(image, look, 1.0), wave(1, 0.5, shift=0.8))


def test_values_stay_in_range_and_volumes_are_images_too() -> None:
    generator = torch.Generator().manual_seed(0)
    image, look = (torch.rand((2, 1, 16, 16, 8), generator=generator) * 2 - 1 for _ in "ab")
    changed = amplitude_mixed(image, look, torch.ones(2))
    assert changed.shape == image.shape
    assert float(changed.abs().max()) <= 1
    assert not torch.allclose(changed, image)
