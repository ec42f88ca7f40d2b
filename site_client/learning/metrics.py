"""Dice and surface distances of one case, with a written rule for every empty mask.

Dice of class k is 2 |P and L| / (|P| + |L|): 1 where both masks are empty, 0 where exactly one is.

Surface distances, in mm with the case's own spacing: a mask's surface are its voxels with at least
one face neighbour outside the mask (or outside the image); a case of one slice is taken as 2-D.
From each surface voxel the distance to the nearest surface voxel of the other mask is taken, both
ways. HD95 is the larger of the two directed 95th percentiles (linear between ranks). ASD is the
mean over all distances of both directions together. Both are None unless both masks have voxels: a
case where one is empty has no distance, and counts in `num_undefined` instead of passing as 0 mm.

With a field of view, both masks are cut to it first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from wardround.shared.errors import DataError
from wardround.shared.messages import ClassScore
from wardround.site_client.data.cases import Case

HD_PERCENTILE = 95


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseClassScore:
    """One class of one case: Dice in [0, 1], distances in mm or None (see the rules above)."""

    dice: float
    hd95_mm: float | None
    asd_mm: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Means over a site's held-out cases.

    Attributes:
        classes: One entry per class that the site labels.
        folds: Mean share of the image where the deformation folds space, in [0, 1]; None where
            nothing is deformed.
        tre_mm: Mean target registration error in millimetres; None where there are no key points.
    """

    classes: tuple[ClassScore, ...]
    folds: float | None = None
    tre_mm: float | None = None

    @property
    def dice(self) -> float:
        """Return the mean Dice over the classes, in [0, 1]."""
        return sum(score.dice for score in self.classes) / len(self.classes)


def score_case(
    predicted_HWD: np.ndarray, case: Case, num_classes: int
) -> tuple[CaseClassScore, ...]:
    """Score a label map against the label of `case`, class 1 first.

    Args:
        predicted_HWD: Label map on the case's own grid, 0 to `num_classes`.
        case: The case it was predicted for.
        num_classes: Foreground classes.

    Raises:
        DataError: The shapes differ.
    """
    if predicted_HWD.shape != case.label_HWD.shape:
        raise DataError(
            f"prediction for case '{case.case_id}' has shape {predicted_HWD.shape}, expected "
            f"{case.label_HWD.shape}. Bring it to the case's grid with preprocess.to_native."
        )
    inside = True if case.fov_HWD is None else case.fov_HWD
    return tuple(
        _score((predicted_HWD == k) & inside, (case.label_HWD == k) & inside, case.spacing_mm)
        for k in range(1, num_classes + 1)
    )


def summarise(
    scores: Sequence[tuple[CaseClassScore, ...]], class_names: Sequence[str]
) -> tuple[ClassScore, ...]:
    """Return each class's means over the cases; distances over the cases where they are defined.

    Args:
        scores: One entry a case, as `score_case` returns it.
        class_names: Foreground names in label order.

    Raises:
        DataError: There is no case, or a case has another number of classes.
    """
    if not scores or any(len(case) != len(class_names) for case in scores):
        raise DataError(
            f"expected at least one case scored on {len(class_names)} classes, got {len(scores)} "
            f"cases on {sorted({len(case) for case in scores})}. Score all cases on one task."
        )
    return tuple(
        _mean(name, [case[index] for case in scores]) for index, name in enumerate(class_names)
    )


def _mean(class_name: str, scores: Sequence[CaseClassScore]) -> ClassScore:
    hd95_mm = [score.hd95_mm for score in scores if score.hd95_mm is not None]
    asd_mm = [score.asd_mm for score in scores if score.asd_mm is not None]
    return ClassScore(
        class_name=class_name,
        dice=float(np.mean([score.dice for score in scores])),
        hd95_mm=float(np.mean(hd95_mm)) if hd95_mm else None,
        asd_mm=float(np.mean(asd_mm)) if asd_mm else None,
        num_undefined=len(scores) - len(hd95_mm),
    )


def _score(
    predicted: np.ndarray, label: np.ndarray, spacing_mm: tuple[float, float, float]
) -> CaseClassScore:
    volume = int(predicted.sum()) + int(label.sum())
    if not volume:
        return CaseClassScore(dice=1.0, hd95_mm=None, asd_mm=None)
    dice = 2 * int((predicted & label).sum()) / volume
    if not predicted.any() or not label.any():
        return CaseClassScore(dice=dice, hd95_mm=None, asd_mm=None)
    there, back = _surface_distances(predicted, label, spacing_mm)
    hd95_mm = max(np.percentile(there, HD_PERCENTILE), np.percentile(back, HD_PERCENTILE))
    asd_mm = np.concatenate([there, back]).mean()
    return CaseClassScore(dice=dice, hd95_mm=float(hd95_mm), asd_mm=float(asd_mm))


def _surface_distances(
    one: np.ndarray, other: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances in mm from each surface voxel of one mask to the other's surface."""
    # Outside the box of both masks there is nothing; the distance transform costs by the voxel.
    box = ndimage.find_objects((one | other).astype(np.uint8))[0]
    num_axes = 2 if one.shape[2] == 1 else 3
    one, other = one[box], other[box]
    if num_axes == 2:
        one, other = one[..., 0], other[..., 0]
    sampling = spacing_mm[:num_axes]
    one_surface, other_surface = _surface(one), _surface(other)
    to_other = ndimage.distance_transform_edt(~other_surface, sampling=sampling)
    to_one = ndimage.distance_transform_edt(~one_surface, sampling=sampling)
    return to_other[one_surface], to_one[other_surface]


def _surface(mask: np.ndarray) -> np.ndarray:
    surface: np.ndarray = mask & ~ndimage.binary_erosion(mask)
    return surface
