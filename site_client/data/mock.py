"""Six made-up prostate-MRI sites, each with its own habits, written as NIfTI in the nnU-Net v2 layout.

Anatomy is drawn per case in millimetres (a gland of two zones, seminal vesicles, bladder, rectum,
muscle, fat), then each site images and contours it in its own way: field of view, resolution, plane
angulation, tissue contrast, bias field, endorectal coil, blur, noise, ghosts, storage orientation,
the mix of small and enlarged glands, and what its readers count as prostate. The sites are named
after six public institutes, whose real scans differ in these respects (the SAML collection: RUNMC,
BMC, I2CVB, UCL, BIDMC, HK). None of it is measured from a patient.

RAS coordinates in millimetres throughout: x to the right, y to the front, z to the head.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wardround.shared import seeds
from wardround.shared.errors import DataError, UsageError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contouring:
    """What a site's readers count as prostate."""

    margin_mm: float = 0.0  # contour outside (+) or inside (-) the capsule
    with_vesicles: bool = False  # seminal vesicles are part of the target
    without_anterior: bool = False  # the anterior fibromuscular stroma is left out
    apex_cut_mm: float = 0.0  # this much of the foot end is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteHabits:
    """How one site scans and contours."""

    site_id: str
    institute: str
    fov_mm: float  # in-plane side
    matrix: int  # in-plane pixels
    num_slices: int
    slice_mm: float
    angulation_deg: float  # mean in-plane rotation of the prescribed stack
    shift_mm: float  # how far off-centre the gland tends to lie (towards the front)
    contrast: tuple[float, float, float, float, float, float]  # see TISSUES
    gamma: float
    bias: float  # strength of the slow field
    coil: float  # endorectal coil brightness; 0: no coil
    blur_mm: float
    noise: float
    ghost: float  # amplitude of motion ghosts
    enlarged: float  # share of enlarged glands
    contouring: Contouring
    axes: str  # storage orientation of the file, as nibabel axis codes


# Tissue order of `contrast`: fat, muscle, peripheral zone, central gland, fluid, rectal wall.
TISSUES = ("fat", "muscle", "peripheral", "central", "fluid", "wall")

MOCK_SITES = (
    SiteHabits(
        site_id="runmc",
        institute="RUNMC",
        fov_mm=112,
        matrix=80,
        num_slices=10,
        slice_mm=3.6,
        angulation_deg=0,
        shift_mm=0,
        contrast=(0.75, 0.18, 0.90, 0.45, 1.00, 0.30),
        gamma=1.0,
        bias=0.10,
        coil=0.0,
        blur_mm=0.8,
        noise=0.02,
        ghost=0.0,
        enlarged=0.3,
        contouring=Contouring(),
        axes="RAS",
    ),
    SiteHabits(
        site_id="bmc",
        institute="BMC",
        fov_mm=140,
        matrix=88,
        num_slices=10,
        slice_mm=4.0,
        angulation_deg=18,
        shift_mm=6,
        contrast=(0.90, 0.35, 0.60, 0.50, 0.75, 0.40),
        gamma=1.3,
        bias=0.45,
        coil=0.0,
        blur_mm=1.6,
        noise=0.05,
        ghost=0.10,
        enlarged=0.7,
        contouring=Contouring(margin_mm=-3.0, without_anterior=True),
        axes="LPS",
    ),
    SiteHabits(
        site_id="i2cvb",
        institute="I2CVB",
        fov_mm=88,
        matrix=96,
        num_slices=12,
        slice_mm=3.0,
        angulation_deg=-15,
        shift_mm=-4,
        contrast=(0.35, 0.25, 0.55, 0.80, 0.95, 0.20),
        gamma=0.8,
        bias=0.20,
        coil=0.9,
        blur_mm=0.6,
        noise=0.04,
        ghost=0.05,
        enlarged=0.2,
        contouring=Contouring(margin_mm=2.0, with_vesicles=True),
        axes="PSR",
    ),
    SiteHabits(
        site_id="ucl",
        institute="UCL",
        fov_mm=128,
        matrix=72,
        num_slices=10,
        slice_mm=3.6,
        angulation_deg=0,
        shift_mm=8,
        contrast=(0.60, 0.10, 0.40, 0.70, 0.85, 0.50),
        gamma=0.7,
        bias=0.30,
        coil=0.0,
        blur_mm=1.2,
        noise=0.03,
        ghost=0.15,
        enlarged=0.5,
        contouring=Contouring(margin_mm=-1.5, apex_cut_mm=8.0),
        axes="LAS",
    ),
    SiteHabits(
        site_id="bidmc",
        institute="BIDMC",
        fov_mm=96,
        matrix=80,
        num_slices=12,
        slice_mm=3.0,
        angulation_deg=10,
        shift_mm=-6,
        contrast=(0.55, 0.40, 0.95, 0.35, 0.60, 0.25),
        gamma=1.1,
        bias=0.20,
        coil=1.6,
        blur_mm=0.8,
        noise=0.06,
        ghost=0.0,
        enlarged=0.4,
        contouring=Contouring(margin_mm=3.0),
        axes="RAS",
    ),
    SiteHabits(
        site_id="hk",
        institute="HK",
        fov_mm=150,
        matrix=80,
        num_slices=10,
        slice_mm=3.6,
        angulation_deg=-8,
        shift_mm=3,
        contrast=(0.95, 0.15, 0.70, 0.65, 0.55, 0.45),
        gamma=1.5,
        bias=0.35,
        coil=0.0,
        blur_mm=2.0,
        noise=0.02,
        ghost=0.08,
        enlarged=0.6,
        contouring=Contouring(margin_mm=-4.0, without_anterior=True),
        axes="RPI",
    ),
)


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


def write_mock_sites(
    root: Path, num_cases: int, seed: int, sites: tuple[SiteHabits, ...] = MOCK_SITES
) -> dict[str, Path]:
    """Write the mock sites under `root`, one nnU-Net v2 data set each.

    Args:
        root: Folder that gets one folder per site; made where it is missing.
        num_cases: Cases per site, at least 3; every fourth becomes a test case (`imagesTs`).
        seed: Seed of every draw; same seed, same bytes.
        sites: Which habits to write.

    Returns:
        The folder of each site, by site id.

    Raises:
        UsageError: `num_cases` is below 3.
        DataError: A site's folder exists already.
    """
    if num_cases < 3:
        raise UsageError(f"a mock site needs at least 3 cases, got {num_cases}. Ask for more.")
    folders = {habits.site_id: root / habits.site_id for habits in sites}
    for folder in folders.values():
        if folder.exists():
            raise DataError(f"'{folder}' exists already. Remove it or choose another folder.")
    for habits in sites:
        _write_site(folders[habits.site_id], habits, num_cases, seed)
    return folders


def _write_site(folder: Path, habits: SiteHabits, num_cases: int, seed: int) -> None:
    num_test = max(1, num_cases // 4)
    for sub in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / sub).mkdir(parents=True)
    for number in range(num_cases):
        image, label, affine = make_case(habits, seed, number)
        part = "Ts" if number >= num_cases - num_test else "Tr"
        case_id = f"{habits.site_id}_{number:03d}"
        _save(folder / f"images{part}" / f"{case_id}_0000.nii.gz", image, affine, habits.axes)
        _save(folder / f"labels{part}" / f"{case_id}.nii.gz", label, affine, habits.axes)
    description = {
        "name": f"Mock prostate MRI after {habits.institute}; made up, no patient",
        "channel_names": {"0": "T2"},
        "labels": {"background": 0, "prostate": 1},
        "numTraining": num_cases - num_test,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _save(path: Path, array: NDArray[np.generic], affine: Array, axes: str) -> None:
    stored = nib.Nifti1Image(array, affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(axes))
    )
    nib.save(stored.as_reoriented(turn), path)


def make_case(
    habits: SiteHabits, seed: int, number: int
) -> tuple[NDArray[np.int16], NDArray[np.uint8], Array]:
    """Make one case as the site would scan and contour it.

    Returns:
        image (X, Y, Z) int16 in 0..1000, label (X, Y, Z) uint8 in {0, 1}, RAS affine (4, 4) in mm.
    """
    rng = np.random.default_rng(seeds.derive(seed, "mock", habits.site_id, number))
    person = draw_anatomy(rng, enlarged=habits.enlarged)
    person = replace(person, centre_mm=person.centre_mm + (0.0, habits.shift_mm, 0.0))
    affine, points_mm = _grid(habits, rng)
    gland, target = _gland(person, habits, points_mm)
    signal = _signal(person, habits, points_mm, gland)
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


def _gland(
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


def _signal(
    person: Anatomy, habits: SiteHabits, points_mm: Array, gland: dict[str, Array]
) -> Array:
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
    return np.round(1000 * np.clip(image / np.percentile(image, 99.9), 0, 1)).astype(np.int16)
