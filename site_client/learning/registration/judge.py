"""Score a registrar: how well labels, and key points, lie on each other once it has moved one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from wardround.shared.plan import StudyPlan
from wardround.site_client.data.cases import Case
from wardround.site_client.data.preprocess import to_samples
from wardround.site_client.learning.inference import INFERENCE_BATCH
from wardround.site_client.learning.metrics import CaseClassScore, Scores, score_case, summarise
from wardround.site_client.learning.registration.pairs import (
    Pair,
    heldout_pairs,
    place_at_same_depth,
)
from wardround.site_client.learning.registration.target_error import (
    expect_points_of_all_or_none,
    target_error_mm,
)
from wardround.site_client.learning.registration.velocity import folds, integrate, on_grid, warp

# N slices (or one volume), A a number for each axis, X spatial axes, H W D a case's own grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What became of a moving case.

    Attributes:
        label_HWD: Its label map, moved, on the fixed case's own grid.
        image_CHWD: Its image likewise, intensities as stored.
        folded: Share of the working grid where space is folded, in [0, 1].
        error_mm: Mean target registration error of the key points; None where there are none.
    """

    label_HWD: np.ndarray
    image_CHWD: np.ndarray
    folded: float
    error_mm: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairJudge:
    """A registrar that is scored on the classes which one site labels.

    Attributes:
        registrar: In evaluation mode.
        plan: Fixes grid, classes and pairs.
        site_id: Whose cases are scored.
    """

    registrar: nn.Module
    plan: StudyPlan
    site_id: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes that are scored, in the order of `task.classes`."""
        return self.plan.task.classes_of(self.site_id)

    @torch.no_grad()
    def move(self, pair: Pair) -> Moved:
        """Bring a moving case onto a fixed one."""
        fixed, moving = pair
        has_points = fixed.points_PA is not None and moving.points_PA is not None
        displacement_NAX = self._displacement(pair)
        on_working_grid = on_grid(displacement_NAX, self.plan.task.working_size)
        folded = float(folds(on_working_grid).float().mean())
        is_volume = self.plan.task.dims == "3d"
        size = fixed.label_HWD.shape if is_volume else fixed.label_HWD.shape[:2]
        on_own_grid = on_grid(displacement_NAX, size)
        places = None if is_volume else _places(pair)
        label_NHW = torch.zeros((len(on_own_grid), *size), dtype=torch.uint8)
        most_NHW = torch.full(label_NHW.shape, -1.0)
        for number in range(len(self.plan.task.classes) + 1):
            mask = _stacked((moving.label_HWD == number)[None].astype(np.float32), places)
            moved_NHW = warp(mask, on_own_grid)[:, 0]
            wins = moved_NHW > most_NHW
            label_NHW[wins] = number
            most_NHW = torch.maximum(moved_NHW, most_NHW)
        image = warp(_stacked(moving.image_CHWD, places), on_own_grid)
        return Moved(
            label_HWD=_unstacked(label_NHW[:, None], is_volume)[0],
            image_CHWD=_unstacked(image, is_volume),
            folded=folded,
            error_mm=target_error_mm(fixed, moving, displacement_NAX, places)
            if has_points
            else None,
        )

    def score(self, moved: Moved, fixed: Case) -> tuple[CaseClassScore, ...]:
        """Return the scores of a moved label map, one entry per class of the site."""
        every = score_case(moved.label_HWD, fixed, len(self.plan.task.classes))
        return tuple(every[self.plan.task.classes.index(name)] for name in self.classes)

    def scores(self, cases: Sequence[Case], watch: Callable[[int, int], None]) -> Scores:
        """Return the means over the pairs of held-out cases; as many pairs as cases.

        Args:
            cases: Held-out cases, at least two.
            watch: Called with (pair, pairs) after each pair.

        Raises:
            DataError: Key points of some cases are missing, or do not correspond in number.
        """
        pairs = heldout_pairs(cases, self.plan, self.site_id)
        expect_points_of_all_or_none(pairs, self.site_id)
        scores, folded, errors_mm = [], [], []
        for number, pair in enumerate(pairs, start=1):
            moved = self.move(pair)
            scores.append(self.score(moved, pair[0]))
            folded.append(moved.folded)
            errors_mm.extend([] if moved.error_mm is None else [moved.error_mm])
            watch(number, len(pairs))
        return Scores(
            classes=summarise(scores, self.classes),
            folds=float(np.mean(folded)),
            tre_mm=float(np.mean(errors_mm)) if errors_mm else None,
        )

    def _displacement(self, pair: Pair) -> Tensor:
        fixed_NCX, moving_NCX = (to_samples(case, self.plan.task).images_NCX for case in pair)
        if self.plan.task.dims != "3d":
            moving_NCX = moving_NCX[_places(pair)]
        both_NCX = torch.cat([fixed_NCX, moving_NCX], dim=1)
        return torch.cat(
            [integrate(self.registrar(batch)) for batch in both_NCX.split(INFERENCE_BATCH)]
        )


def _places(pair: Pair) -> list[int]:
    """Return the slice of the moving volume that goes with each slice of the fixed one."""
    depth, other_depth = (case.label_HWD.shape[2] for case in pair)
    return [place_at_same_depth(place, depth, other_depth) for place in range(depth)]


def _stacked(values_CHWD: np.ndarray, places: list[int] | None) -> Tensor:
    """Return slices (N, C, H, W) at `places` along D; a volume (1, C, H, W, D) where it is None."""
    values = torch.from_numpy(values_CHWD)
    return values[None] if places is None else values[..., places].permute(3, 0, 1, 2)


def _unstacked(values: Tensor, is_volume: bool) -> np.ndarray:
    """Undo `_stacked`: (C, H, W, D)."""
    array: np.ndarray = (values[0] if is_volume else values.permute(1, 2, 3, 0)).numpy()
    return array
