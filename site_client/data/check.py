"""What `wardround data check` says of a folder: faults, warnings and a fingerprint of each site.

A fault stops a study; a warning is what a person should look at; a fingerprint shows whether sites
are what one thinks they are. Nothing here leaves the site.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wardround.shared import plan
from wardround.site_client.data.cases import Case, Examination, Expected, examine
from wardround.site_client.data.faults import Fault
from wardround.site_client.data.readers import reader_of

PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)
ANISOTROPIC = 3.0
MAX_SHAPES = 8
ExpectedOf = Callable[[str], Expected]  # of the site with this name


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Numbers that describe one site's sound cases.

    Attributes:
        shapes: "C x H x W x D" -> how many cases, the commonest first, at most eight.
        spacing_mm: Median over the cases along H, W, D.
        intensity_percentiles: 0.5, 5, 50, 95, 99.5: medians over the cases.
        label_shares: Label value -> share of all voxels, background (0) included.
    """

    num_train: int
    num_heldout: int
    shapes: dict[str, int]
    spacing_mm: tuple[float, float, float]
    intensity_percentiles: tuple[float, ...]
    label_shares: dict[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCheck:
    """What was found in one site's folder. `fingerprint` is None where no case could be read."""

    site_id: str
    folder: Path
    layout: str
    split_origin: str
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]
    fingerprint: Fingerprint | None

    @property
    def is_sound(self) -> bool:
        """Return whether a study could use this site."""
        return not self.faults


def expected_of(task: plan.Task | None, num_classes: int | None = None) -> ExpectedOf:
    """Return what to hold a site's folder against: a task, or a number of classes, or neither."""
    if task is not None:
        return lambda site_id: Expected.of(task, site_id)
    return lambda _site_id: Expected(num_classes=num_classes)


def check_folder(
    folder: Path, expected: ExpectedOf, data: plan.Data | None = None
) -> tuple[SiteCheck, ...]:
    """Check one site's folder, or every site in a folder of sites.

    Args:
        folder: A site in one of the known layouts, or a folder with at least one such folder in it.
        expected: From `expected_of`.
        data: How the study splits; the plan's defaults where left out.

    Returns:
        One entry a site, in the order of their names. A folder that is neither gives one entry
        whose fault says which layouts were looked for.
    """
    sites = [folder]
    if folder.is_dir() and reader_of(folder) is None:
        inner = sorted(path for path in folder.iterdir() if path.is_dir())
        visible = [path for path in inner if not path.name.startswith(".")]
        sites = visible if any(map(reader_of, visible)) else sites
    return tuple(check_site(path, expected, data) for path in sites)


def check_site(folder: Path, expected: ExpectedOf, data: plan.Data | None = None) -> SiteCheck:
    """Check one site's folder, whose name is the site's; see `check_folder`."""
    site_id = folder.name or folder.resolve().name
    found = examine(folder, expected(site_id), data or plan.Data())
    return SiteCheck(
        site_id=site_id,
        folder=folder,
        layout=found.listing.layout,
        split_origin=found.split.origin,
        faults=found.faults,
        warnings=(*found.listing.notes, *_warnings(found, expected(site_id))),
        fingerprint=_fingerprint(found) if found.cases else None,
    )


def _fingerprint(found: Examination) -> Fingerprint:
    cases = found.cases
    shapes = Counter(" x ".join(map(str, case.image_CHWD.shape)) for case in cases)
    spacing = np.median([case.spacing_mm for case in cases], axis=0).tolist()
    percentiles = np.median([np.percentile(c.image_CHWD, PERCENTILES) for c in cases], axis=0)
    return Fingerprint(
        num_train=len(found.split.train),
        num_heldout=len(found.split.heldout),
        shapes=dict(shapes.most_common(MAX_SHAPES)),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        intensity_percentiles=tuple(percentiles.tolist()),
        label_shares=_label_shares(cases),
    )


def _label_shares(cases: Sequence[Case]) -> dict[int, float]:
    counts = np.zeros(256, dtype=np.int64)
    for case in cases:
        counts += np.bincount(case.label_HWD.ravel(), minlength=256)
    return {int(value): float(counts[value] / counts.sum()) for value in np.flatnonzero(counts)}


def _warnings(found: Examination, expected: Expected) -> list[str]:
    cases = found.cases
    if not cases:
        return []
    warnings = [
        f"image of case '{case.case_id}' has the same value everywhere"
        for case in cases
        if case.image_CHWD.min() == case.image_CHWD.max()
    ]
    empty = [case.case_id for case in cases if not case.label_HWD.any()]
    if len(empty) == len(cases):
        warnings.append("every label is empty: nothing can be learnt or scored")
    elif empty:
        warnings.append(f"{len(empty)} of {len(cases)} labels are empty, such as '{empty[0]}'")
    pointless = [case.case_id for case in cases if case.points_PA is None]
    if 0 < len(pointless) < len(cases):
        warnings.append(
            f"{len(pointless)} of {len(cases)} cases have no key points, such as '{pointless[0]}'"
        )
    shares = _label_shares(cases)
    names = expected.class_names or ()
    absent = [
        k
        for k in range(1, (expected.num_classes or 0) + 1)
        if k not in shares and (expected.labels is None or names[k - 1] in expected.labels)
    ]
    if absent and len(empty) < len(cases):
        warnings.append(f"no case has label value {', '.join(map(str, absent))}")
    spacings = np.array([case.spacing_mm for case in cases])
    stretched = int((spacings.max(axis=1) > ANISOTROPIC * spacings.min(axis=1)).sum())
    if stretched and expected.is_volume:
        warnings.append(
            f"{stretched} of {len(cases)} volumes have slices more than {ANISOTROPIC:g} times as "
            "far apart as pixels: consider task.dims '2.5d'"
        )
    return warnings
