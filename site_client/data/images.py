"""Image files as arrays: PNG and NIfTI, in one orientation.

The axes of an array are H, W, D. A PNG's rows are H and its columns W, D = 1, spacing 1 mm. A NIfTI
volume is first turned to the closest RAS orientation, then H runs to the right (x), W to the front
(y), D to the head (z), and the spacing follows the same order. So two files that store the same
body in different orientations give the same array. A fourth NIfTI axis holds channels.
"""

import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, ImageDataError
from PIL import Image

from wardround.site_client.data.faults import Fault

MAX_VOXELS = 2**30
BROKEN = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    SyntaxError,
    struct.error,
    zlib.error,
    ImageFileError,
    ImageDataError,
    HeaderDataError,
    Image.DecompressionBombError,
)
MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
INTEGER_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One file's content. `values_CHWD` keeps the file's own numeric type."""

    values_CHWD: np.ndarray
    spacing_mm: tuple[float, float, float]
    affine: np.ndarray | None  # 4 x 4, voxel to mm; None for PNG
    from_file: np.ndarray  # 4 x 4, a voxel's index in the file to that along H, W, D


def read_image(file: Path) -> Volume | Fault:
    """Read an image file.

    Returns:
        The image with float32 values as stored (scale factors applied), or what is wrong with it: a
        file that cannot be read, an unknown kind of pixel, a value that is not finite.
    """
    volume = _read(file, is_label=False)
    if isinstance(volume, Fault):
        return volume
    values = volume.values_CHWD.astype(np.float32)
    num_bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if num_bad:
        problem = f"{num_bad} of {values.size} image values are NaN or infinite"
        return Fault(file=file, problem=problem, remedy="Replace them, or remove the case")
    return replace(volume, values_CHWD=values)


def read_label(file: Path) -> Volume | Fault:
    """Read a label map or mask: one channel of integers (returned as int64), or what is wrong."""
    volume = _read(file, is_label=True)
    if isinstance(volume, Fault):
        return volume
    values = volume.values_CHWD
    if values.shape[0] != 1:
        problem = f"a label map has one channel, this file has {values.shape[0]}"
        return Fault(file=file, problem=problem, remedy="Save one integer label map")
    whole = np.isfinite(values) & (values == np.round(values))
    if not whole.all():
        odd = np.unique(values[~whole])[:3].tolist()
        problem = f"label values must be whole numbers, found {odd}"
        remedy = "Resample label maps with nearest neighbour and save them as integers"
        return Fault(file=file, problem=problem, remedy=remedy)
    return replace(volume, values_CHWD=values.astype(np.int64))


def _read(file: Path, *, is_label: bool) -> Volume | Fault:
    try:
        if file.name.lower().endswith(".png"):
            return _read_png(file, is_label=is_label)
        return _read_nifti(file)
    except MemoryError:
        problem = "the header asks for more memory than there is"
    except BROKEN as error:
        text = " ".join(str(error).replace(str(file), "the file").split())[:160].rstrip(".")
        problem = f"the file cannot be read ({text or type(error).__name__})"
    return Fault(file=file, problem=problem, remedy="Copy it again from its source")


def _read_png(file: Path, *, is_label: bool) -> Volume | Fault:
    with Image.open(file, formats=("PNG",)) as picture:
        if picture.mode == "P" and not is_label:
            values = np.asarray(picture.convert("RGB"))
        elif picture.mode in INTEGER_MODES or (picture.mode == "RGB" and not is_label):
            values = np.asarray(picture)
        else:
            wanted = "grey (8 or 16 bit)" if is_label else "grey (8 or 16 bit) or RGB"
            problem = f"pixels are of kind {picture.mode}, expected {wanted}"
            return Fault(file=file, problem=problem, remedy=f"Save it as {wanted} PNG")
    values = values.astype(np.uint8) if values.dtype == np.bool_ else values
    values_HWC = values[..., None] if values.ndim == 2 else values
    values_CHWD = np.ascontiguousarray(np.moveaxis(values_HWC, -1, 0)[..., None])
    return Volume(
        values_CHWD=values_CHWD,
        spacing_mm=(1.0, 1.0, 1.0),
        affine=None,
        from_file=np.eye(4)[[1, 0, 2, 3]],  # columns, then rows
    )


def _read_nifti(file: Path) -> Volume | Fault:
    image: Any = nibabel.load(file)
    shape, kind = image.shape, image.get_data_dtype()
    if kind.fields is not None or kind.kind not in "biuf":
        remedy = "Save plain numbers; RGB belongs into a fourth axis or a PNG"
        return Fault(file=file, problem=f"voxels are of type {kind}", remedy=remedy)
    if not 2 <= len(shape) <= 4 or 0 in shape or np.prod(shape, dtype=float) > MAX_VOXELS:
        problem = f"the shape {shape} is not that of one image of 2 to 4 axes"
        return Fault(file=file, problem=problem, remedy="Save one volume a file")
    if len(shape) == 2:
        image = nibabel.Nifti1Image(
            np.asanyarray(image.dataobj)[..., None], image.affine, image.header
        )
    spacing = nibabel.affines.voxel_sizes(image.affine)
    if not np.isfinite(image.affine).all() or not (spacing > 0).all():
        problem = f"the header's voxel spacing {spacing.tolist()} is not positive"
        return Fault(file=file, problem=problem, remedy="Set the true spacing in the header")
    canonical = nibabel.as_closest_canonical(image)
    values = np.asanyarray(canonical.dataobj)
    values_HWDC = values[..., None] if values.ndim == 3 else values
    to_mm = MM_PER_UNIT.get(_unit(image), 1.0)
    # Headers store float32: 1.2 mm comes back as 1.1999999994.
    sides = nibabel.affines.voxel_sizes(canonical.affine)
    height, width, depth = (round(float(side) * to_mm, 6) for side in sides)
    return Volume(
        values_CHWD=np.ascontiguousarray(np.moveaxis(values_HWDC, -1, 0)),
        spacing_mm=(height, width, depth),
        affine=canonical.affine,
        from_file=_turned(image.affine, image.shape),
    )


def _turned(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return what takes a voxel's index to that in the closest RAS orientation, 4 x 4."""
    orientation = nibabel.orientations.io_orientation(affine)
    back = nibabel.orientations.inv_ornt_aff(orientation, shape[:3])
    turned: np.ndarray = np.linalg.inv(back)
    return turned


def _unit(image: Any) -> str:
    return str(image.header.get_xyzt_units()[0]) if hasattr(image.header, "get_xyzt_units") else ""


def same_place(one: Volume, other: Volume) -> bool:
    """Return whether two volumes of one shape lie in the same place of the body.

    Their corners may differ by a tenth of the smallest voxel side: headers are rounded.
    """
    if one.affine is None or other.affine is None:
        return True
    shape = np.array(one.values_CHWD.shape[1:])
    corners = np.array([[*(shape * bits), 1] for bits in np.ndindex(2, 2, 2)])
    moved_mm = np.linalg.norm((corners @ (one.affine - other.affine).T)[:, :3], axis=1)
    side_mm = nibabel.affines.voxel_sizes(one.affine).min()
    return bool(moved_mm.max() <= 0.1 * side_mm)
