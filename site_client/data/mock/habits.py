"""The habits of the six mock sites: how each scans, whom it scans, and what it contours.

Named after six public institutes whose real prostate scans differ in these respects (the SAML
collection: RUNMC, BMC, I2CVB, UCL, BIDMC, HK). The figures are made up to differ; none is measured.
"""

from dataclasses import dataclass


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
