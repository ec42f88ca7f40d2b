"""How far key points of the moving image lie from where the deformation looks for them.

The target registration error (Fitzpatrick and West 2001, doi:10.1109/42.952729): a point x of the
fixed image is taken to x + u(x) in the moving one, where the point that corresponds to it has a
place of its own; the error is their distance in millimetres. In 2-D a point lies in the slice
nearest to it and goes with that slice to its partner, so the error holds what is lost between them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from wardround.shared.errors import DataError
from wardround.site_client.data.cases import Case

# N slices (or one volume), A a number for each axis, X spatial axes, P points


def expect_points_of_all_or_none(pairs: Sequence[tuple[Case, Case]], site_id: str) -> None:
    """Check that all cases of `pairs` have key points, as many in both of a pair, or none has.

    Raises:
        DataError: Naming the case.
    """
    cases = {case.case_id: case for pair in pairs for case in pair}
    without = sorted(name for name, case in cases.items() if case.points_PA is None)
    if len(without) == len(cases):
        return
    if without:
        raise DataError(
            f"site '{site_id}': {len(without)} of {len(cases)} held-out cases have no key points, "
            f"the first is '{without[0]}'. Give every held-out case its file, or none."
        )
    for fixed, moving in pairs:
        of_fixed, of_moving = _points(fixed), _points(moving)
        if len(of_fixed) != len(of_moving):
            raise DataError(
                f"site '{site_id}': case '{fixed.case_id}' has {len(of_fixed)} key points and case "
                f"'{moving.case_id}', with which it is registered, has {len(of_moving)}. Row by "
                f"row they must name the same places; remove what only one of them has."
            )


def target_error_mm(
    fixed: Case, moving: Case, displacement_NAX: Tensor, places: Sequence[int] | None
) -> float:
    """Return the mean target registration error of a pair's key points, in millimetres.

    Args:
        fixed: Its points are taken along.
        moving: Its points are where they should arrive; its spacing measures the distance.
        displacement_NAX: In halves of a side, for each slice of the fixed case, or for its volume.
        places: The moving case's slice that goes with each of the fixed one; None for a volume.
    """
    from_PA, wanted_PA = _points(fixed), _points(moving)
    axes = displacement_NAX.shape[1]
    at_PA = in_halves(from_PA[:, :axes], fixed.label_HWD.shape[:axes])
    slice_P = torch.zeros(len(from_PA), dtype=torch.long)
    if places is not None:
        slice_P = from_PA[:, 2].round().long().clamp(0, len(places) - 1)
    arrived_PA = wanted_PA.clone()
    for index in slice_P.unique().tolist():
        here_P = slice_P == index
        moved_PA = at_PA[here_P] + _sampled(displacement_NAX[index], at_PA[here_P])
        arrived_PA[here_P, :axes] = in_voxels(moved_PA, moving.label_HWD.shape[:axes])
        if places is not None:
            arrived_PA[here_P, 2] = float(places[index])
    off_mm_PA = (arrived_PA - wanted_PA) * torch.tensor(moving.spacing_mm, dtype=torch.float64)
    return float(off_mm_PA.norm(dim=1).mean())


def in_halves(voxels_PA: Tensor, size: Sequence[int]) -> Tensor:
    """Return places given as voxel indices in halves of a side, from the middle of the image."""
    return (voxels_PA + 0.5) / torch.tensor(size) * 2 - 1


def in_voxels(halves_PA: Tensor, size: Sequence[int]) -> Tensor:
    """Undo `in_halves`."""
    return (halves_PA + 1) / 2 * torch.tensor(size) - 0.5


def _sampled(displacement_AX: Tensor, at_PA: Tensor) -> Tensor:
    """Return the displacement at places in halves of a side, linearly interpolated, (P, A)."""
    axes = at_PA.shape[1]
    # The grid counts axes from the last one.
    grid = at_PA.flip(1).reshape(1, -1, *([1] * (axes - 1)), axes)
    field = displacement_AX[None].double()
    found = F.grid_sample(field, grid, padding_mode="border", align_corners=False)
    return found.reshape(axes, -1).T


def _points(case: Case) -> Tensor:
    if case.points_PA is None:
        raise DataError(f"case '{case.case_id}' has no key points. Give it some, or score none.")
    return torch.from_numpy(case.points_PA)
