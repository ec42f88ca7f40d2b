"""Scan and contour one made-up person as a site would: grid, blur, bias, coil, ghosts, noise."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wardround.shared import seeds
from wardround.site_client.data.mock.anatomy import Anatomy, Array, draw_anatomy, draw_gland, paint
from wardround.site_client.data.mock.habits import SiteHabits


def make_case(
    habits: SiteHabits, seed: int, number: int
) -> tuple[NDArray[np.int16], NDArray[np.uint8], Array]:
    """Make one case as the site would scan and contour it.

    Returns:
        image (X, Y, Z) int16 in 0..1000, label (X, Y, Z) uint8 in {0, 1}, RAS affine (4, 4) in mm.
    """
    rng = np.random.default_rng(seeds.derive(seed, "mock", habits.site_id, number))
    person = draw_anatomy(rng, enlarged=habits.enlarged)
    person = replace(person, centre_mm=person.centre_mm + np.array([0.0, habits.shift_mm, 0.0]))
    affine, points_mm = _grid(habits, rng)
    gland, target = draw_gland(person, habits, points_mm)
    signal = paint(person, habits, points_mm, gland)
    image = _scan(signal, habits, points_mm, person, rng)
    label = ndimage.binary_opening(target, np.ones((2, 2, 1))) & (gland["capsule"] < 2)
    return image, label.astype(np.uint8), affine


def _grid(habits: SiteHabits, rng: np.random.Generator) -> tuple[Array, Array]:
    pixel = habits.fov_mm / habits.matrix
    angle = np.deg2rad(habits.angulation_deg + rng.normal(0.0, 3.0))
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    shape = np.array([habits.matrix, habits.matrix, habits.num_slices])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([pixel, pixel, habits.slice_mm])
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2) + rng.normal(0.0, (2.0, 2.0, 1.5))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    points = np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3][:, None, None, None]
    return affine, points


def _scan(
    signal: Array, habits: SiteHabits, points_mm: Array, person: Anatomy, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Turn tissue signal into what the scanner stores."""
    pixel = habits.fov_mm / habits.matrix
    image = np.clip(signal, 0, None) ** habits.gamma
    image = ndimage.gaussian_filter(image, (habits.blur_mm / pixel, habits.blur_mm / pixel, 0.25))
    waves = rng.normal(size=(3, 3)) / 90.0
    image *= np.exp(
        habits.bias * sum(np.sin(k @ points_mm.reshape(3, -1)).reshape(image.shape) for k in waves)
    )
    if habits.coil:
        x, y, _ = points_mm
        away = np.hypot(
            x - person.centre_mm[0], y - person.centre_mm[1] + person.radii_mm[1] + person.rectum_mm
        )
        image *= 1 + habits.coil * 2.5 * np.exp(-away / 16.0)
    if habits.ghost:
        step = int(rng.integers(habits.matrix // 6, habits.matrix // 3))
        image += habits.ghost * (np.roll(image, step, axis=1) + np.roll(image, -step, axis=1))
    level = habits.noise * np.percentile(image, 95)
    image = np.hypot(image + rng.normal(0, level, image.shape), rng.normal(0, level, image.shape))
    whole = np.round(1000 * np.clip(image / np.percentile(image, 99.9), 0, 1))
    stored: NDArray[np.int16] = whole.astype(np.int16)
    return stored
