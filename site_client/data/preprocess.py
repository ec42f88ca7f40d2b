"""From a case's own grid and intensities to what a network sees, and back.

Intensities are clipped and scaled to [-1, 1] per channel over the whole case, then resampled to the
task's working size: linear interpolation with a filter as wide as the shrinking (antialiased), axis
by axis, so aspect ratios are not kept and `to_native` inverts them. Labels are resampled as one
mask a class with the same filter; the largest wins. A grid that has the wanted size stays as it is.
Letters: N samples, C channels, K 1 + classes, X working size, H W D the case's own grid.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wardround.shared.errors import DataError
from wardround.shared.plan import Task
from wardround.site_client.data.cases import Case

PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One case as a network sees it: N = D slices for 2d and 2.5d, N = 1 for 3d.

    Attributes:
        images_NCX: float32 in [-1, 1], shape (N, task.input_channels, *task.working_size).
        labels_NX: int64, 0 to the number of classes, shape (N, *task.working_size).
    """

    images_NCX: Tensor
    labels_NX: Tensor


def to_samples(case: Case, task: Task) -> Samples:
    """Return every slice (2d, 2.5d; empty ones too) or the volume (3d) of `case`.

    For 2.5d the channels are those of the slice below, the slice and the slice above; the first and
    the last slice stand in for a missing neighbour.
    """
    size = _target_size(case, task)
    image_CHWD = _resample(normalise(case.image_CHWD, task), size)
    masks = (torch.from_numpy(case.label_HWD == k)[None] for k in range(len(task.classes) + 1))
    label_HWD = _largest(_resample(mask.float(), size)[0] for mask in masks)
    if task.dims == "3d":
        return Samples(images_NCX=image_CHWD[None], labels_NX=label_HWD[None])
    slices_DCHW = image_CHWD.permute(3, 0, 1, 2)
    if task.dims == "2.5d":
        below = torch.cat([slices_DCHW[:1], slices_DCHW[:-1]])
        above = torch.cat([slices_DCHW[1:], slices_DCHW[-1:]])
        slices_DCHW = torch.cat([below, slices_DCHW, above], dim=1)
    return Samples(
        images_NCX=slices_DCHW.contiguous(), labels_NX=label_HWD.permute(2, 0, 1).contiguous()
    )


def to_native(probabilities_NKX: Tensor, case: Case, task: Task) -> np.ndarray:
    """Return the label map of `case` on its own grid.

    Args:
        probabilities_NKX: A network's output for `to_samples(case, task)`, shape
            (N, 1 + classes, *task.working_size); any scores that grow with likelihood.
        case: Whose grid is wanted.
        task: The task both belong to.

    Returns:
        uint8, shape (H, W, D); the class with the largest linearly interpolated score, the lowest
        number where several are equal.

    Raises:
        DataError: The shape is not the one `to_samples` gives.
    """
    num_samples = 1 if task.dims == "3d" else case.label_HWD.shape[2]
    expected = (num_samples, len(task.classes) + 1, *task.working_size)
    if tuple(probabilities_NKX.shape) != expected:
        raise DataError(
            f"probabilities of case '{case.case_id}' have shape {tuple(probabilities_NKX.shape)}, "
            f"expected {expected}. Pass the network's output for to_samples(case, task)."
        )
    scores = probabilities_NKX.detach().to(device="cpu", dtype=torch.float32)
    scores_KX = scores[0] if task.dims == "3d" else scores.permute(1, 2, 3, 0)
    label_HWD = _largest(_resample(score[None], case.label_HWD.shape)[0] for score in scores_KX)
    return label_HWD.to(torch.uint8).numpy()


def normalise(image_CHWD: np.ndarray, task: Task) -> Tensor:
    """Return the image in [-1, 1] as `task.normalisation` says, float32, shape (C, H, W, D).

    percentile: 0.5 to 99.5 of each channel. Where these two are equal, minimum to maximum; a
    channel of one value is -1 everywhere. range: 0..255.
    """
    if task.normalisation == "range":
        return torch.from_numpy(image_CHWD / 127.5 - 1).to(torch.float32).clamp(-1, 1)
    scaled = np.empty(image_CHWD.shape, dtype=np.float32)
    for channel, values in zip(scaled, image_CHWD, strict=True):
        low, high = np.percentile(values, PERCENTILES)
        if low == high:
            low, high = values.min(), values.max()
        width = high - low if high > low else 1.0
        channel[:] = np.clip((values - low) / width, 0, 1) * 2 - 1
    return torch.from_numpy(scaled)


def _target_size(case: Case, task: Task) -> tuple[int, ...]:
    if task.dims == "3d":
        return task.working_size
    return (*task.working_size, case.label_HWD.shape[2])


def _resample(values_CHWD: Tensor, size: Sequence[int]) -> Tensor:
    """Resample (C, H, W, D) to (C, *size): antialiased where an axis shrinks, exact otherwise."""
    height, width, depth = size
    channels = values_CHWD.shape[0]
    if tuple(values_CHWD.shape[1:3]) != (height, width):
        planes_DCHW = values_CHWD.permute(3, 0, 1, 2)
        planes_DCHW = F.interpolate(planes_DCHW, (height, width), mode="bilinear", antialias=True)
        values_CHWD = planes_DCHW.permute(1, 2, 3, 0)
    if values_CHWD.shape[3] != depth:
        # A 2-D filter over (pixel, D) that leaves the pixel axis alone is a 1-D filter along D.
        lines = values_CHWD.reshape(1, channels, height * width, -1)
        lines = F.interpolate(lines, (height * width, depth), mode="bilinear", antialias=True)
        values_CHWD = lines.reshape(channels, height, width, depth)
    return values_CHWD


def _largest(scores: Iterable[Tensor]) -> Tensor:
    """Return the index of the largest score at every pixel, one score map at a time."""
    best: Tensor | None = None
    index = torch.empty(0)
    for number, score in enumerate(scores):
        if best is None:
            best, index = score.clone(), torch.zeros(score.shape, dtype=torch.int64)
            continue
        wins = score > best
        index[wins] = number
        best[wins] = score[wins]
    return index
