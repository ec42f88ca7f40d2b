"""The made-up pelvis: a gland of two zones, seminal vesicles, bladder, rectum, muscle and fat.

RAS coordinates in millimetres: x to the right, y to the front, z to the head. Parts are level sets,
below 1 inside, so that a contour may lie outside or inside a capsule by some millimetres.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wardround.site_client.data.mock.habits import SiteHabits

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """One person's pelvis, drawn once and independent of who scans it."""

    radii_mm: Array  # (3,) half axes of the gland
    harmonics: Array  # (6,) slow waves of the capsule
    central_share: float  # size of the central gland within the gland
    centre_mm: Array  # (3,)
    roll_deg: float
    vesicles_mm: Array  # (2, 3) half axes, left and right
    rectum_mm: float  # radius
    bladder_mm: float  # radius
    pelvis_mm: Array  # (2,) inner half width and height between the muscles
    texture_seed: int


def draw_anatomy(rng: np.random.Generator, *, enlarged: float) -> Anatomy:
    """Draw one person.

    Args:
        rng: The case's stream.
        enlarged: Probability in [0, 1] of an enlarged gland.
    """
    large = rng.random() < enlarged
    scale = rng.normal(1.22, 0.10) if large else rng.normal(0.95, 0.10)
    radii = np.array([24.0, 18.0, 19.0]) * np.clip(scale, 0.7, 1.5) * rng.normal(1.0, 0.10, 3)
    return Anatomy(
        radii_mm=radii,
        harmonics=rng.normal(0.0, 0.055, 6),
        central_share=float(np.clip(rng.normal(0.80 if large else 0.62, 0.06), 0.45, 0.9)),
        centre_mm=rng.normal(0.0, (3.5, 3.0, 3.0)),
        roll_deg=float(rng.normal(0.0, 6.0)),
        vesicles_mm=np.array([13.0, 5.0, 6.0]) * rng.uniform(0.7, 1.3, (2, 3)),
        rectum_mm=float(rng.uniform(9.0, 16.0)),
        bladder_mm=float(rng.uniform(16.0, 30.0)),
        pelvis_mm=np.array([46.0, 42.0]) * rng.normal(1.0, 0.07, 2),
        texture_seed=int(rng.integers(2**32)),
    )


def draw_gland(
    person: Anatomy, habits: SiteHabits, points_mm: Array
) -> tuple[dict[str, Array], NDArray[np.bool_]]:
    """Return level sets of the gland's parts (inside below 1) and what the site contours."""
    roll = np.deg2rad(person.roll_deg)
    x, y, z = points_mm - person.centre_mm[:, None, None, None]
    x, y = x * np.cos(roll) + y * np.sin(roll), y * np.cos(roll) - x * np.sin(roll)
    u, v, w = x / person.radii_mm[0], y / person.radii_mm[1], z / person.radii_mm[2]
    angle, a = np.arctan2(v, u), person.harmonics
    wave = (
        a[0] * np.cos(2 * angle)
        + a[1] * np.sin(2 * angle)
        + a[2] * np.cos(3 * angle)
        + a[3] * np.sin(3 * angle)
        + a[4] * w
        + a[5] * np.cos(angle) * w
    )
    # The coil's balloon flattens the gland from behind.
    flat = np.where(v < 0, 1.0 + 0.35 * min(habits.coil, 1.0), 1.0)
    capsule = (np.abs(u) ** 2.3 + np.abs(v * flat) ** 2.3 + np.abs(w) ** 2.3) ** (1 / 2.3) / (
        1 + wave
    )
    central = np.sqrt(u**2 + (v - 0.22) ** 2 + (w - 0.1) ** 2) / (person.central_share * (1 + wave))
    vesicles = np.minimum(
        *(
            np.sqrt(
                ((x - side * person.vesicles_mm[i, 0] * 0.9) / person.vesicles_mm[i, 0]) ** 2
                + ((y + person.radii_mm[1] * 0.75) / person.vesicles_mm[i, 1]) ** 2
                + ((z - person.radii_mm[2] * 0.95) / person.vesicles_mm[i, 2]) ** 2
            )
            for i, side in enumerate((-1, 1))
        )
    )
    rules = habits.contouring
    target = capsule < 1 + rules.margin_mm / person.radii_mm.mean()
    if rules.without_anterior:
        target &= v < 0.55
    if rules.apex_cut_mm:
        target &= z > -person.radii_mm[2] + rules.apex_cut_mm
    if rules.with_vesicles:
        target |= vesicles < 1
    parts = {
        "capsule": capsule,
        "central": central,
        "vesicles": vesicles,
        "anterior": v,
        "x": x,
        "y": y,
        "z": z,
    }
    return parts, target


def paint(person: Anatomy, habits: SiteHabits, points_mm: Array, gland: dict[str, Array]) -> Array:
    """Paint the tissues, later ones over earlier ones."""
    fat, muscle, peripheral, central, fluid, wall = habits.contrast
    texture = _texture(person, points_mm.shape[1:])
    x, y, z = points_mm
    signal = np.full(x.shape, fat) + 0.05 * texture[0]
    outside = np.abs(x) / person.pelvis_mm[0] + 0.25 * np.abs(y / person.pelvis_mm[1]) ** 2
    signal[outside > 0.92] = muscle
    signal += np.where(outside > 0.92, 0.04 * texture[1], 0.0)
    bladder_centre = person.radii_mm[2] + person.bladder_mm * 0.75 + person.centre_mm[2]
    in_bladder = x**2 + (y - 8) ** 2 + (z - bladder_centre) ** 2 < person.bladder_mm**2
    signal[in_bladder] = fluid
    signal[gland["vesicles"] < 1] = 0.5 * (fluid + peripheral)
    inside = gland["capsule"] < 1
    signal[inside] = (peripheral + 0.08 * texture[1])[inside]
    core = inside & (gland["central"] < 1)
    signal[core] = (central + 0.16 * texture[0] * (1 + person.central_share))[core]
    signal[inside & (gland["anterior"] > 0.62)] = muscle
    signal[np.abs(gland["capsule"] - 1) < 0.04] *= 0.75
    return _rectum(signal, person, habits, gland, wall)


def _rectum(
    signal: Array, person: Anatomy, habits: SiteHabits, gland: dict[str, Array], wall: float
) -> Array:
    radius = person.rectum_mm * (1 + 0.35 * min(habits.coil, 1.0))
    behind = person.radii_mm[1] / (1 + 0.35 * min(habits.coil, 1.0))
    away = np.hypot(gland["x"] / 1.15, gland["y"] + behind + radius + 1.5)
    signal[away < radius + 3] = wall
    signal[away < radius] = 0.04 if habits.coil else 0.12 + 0.5 * wall
    return signal


def _texture(person: Anatomy, shape: tuple[int, ...]) -> tuple[Array, Array]:
    rng = np.random.default_rng(person.texture_seed)
    coarse, fine = (
        ndimage.gaussian_filter(rng.normal(size=shape), (width, width, 0.6)) for width in (2.2, 1.1)
    )
    return coarse / coarse.std(), fine / fine.std()
