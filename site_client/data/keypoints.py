"""Key points: places in a case that correspond, row by row, to those of other cases of its site.

`keypoints/NAME.csv` (`keypointsTr`, `keypointsTs` beside `imagesTr`, `imagesTs`) lies beside the
images, as in Learn2Reg (Hering et al. 2023, doi:10.1109/TMI.2022.3213983): a row a point, its voxel
index along the axes of the image file, from 0 at the centre of the first voxel; fractions are
allowed. An image of one slice may leave the third index out; in a PNG the first index is the
column. A first row of words is a heading and is passed over.
"""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from wardround.site_client.data.faults import Fault
from wardround.site_client.data.images import Volume
from wardround.site_client.data.listing import Listing

FOLDERS = ("keypoints", "keypointsTr", "keypointsTs")
ENDING = ".csv"


def with_points(listing: Listing, folder: Path) -> Listing:
    """Return a listing that names the files of key points in `folder` too.

    A file that belongs to no case, or to one that has another, is a fault.
    """
    found: dict[str, Path] = {}
    faults: list[Fault] = []
    ids = {case.case_id for case in listing.cases}
    files = [file for name in FOLDERS for file in sorted((folder / name).glob(f"[!.]*{ENDING}"))]
    for file in files:
        case_id = file.name[: -len(ENDING)]
        if case_id in found:
            problem = f"case '{case_id}' has key points in '{found[case_id].parent.name}' as well"
            faults.append(Fault(file=file, problem=problem, remedy="Keep one of them"))
        elif case_id not in ids:
            problem = f"key points of case '{case_id}', which has no image with a label"
            remedy = "Name the file after its case, or remove it"
            faults.append(Fault(file=file, problem=problem, remedy=remedy))
        found.setdefault(case_id, file)
    cases = tuple(replace(case, points_file=found.get(case.case_id)) for case in listing.cases)
    return replace(listing, cases=cases, faults=(*listing.faults, *faults))


def read_points(file: Path, image: Volume) -> np.ndarray | Fault:
    """Read the key points of an image.

    Returns:
        Voxel indices along H, W, D of the image's array, float64 (P, 3), or what is wrong with the
        file: not text, no point, not two or three finite numbers in a row, a point outside.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    except (OSError, ValueError, csv.Error) as error:
        problem = f"the file cannot be read ({type(error).__name__})"
        return Fault(file=file, problem=problem, remedy="Save it as comma-separated text in UTF-8")
    start = 1 if rows and not any(_is_number(cell) for cell in rows[0]) else 0
    num_axes = {2, 3} if image.values_CHWD.shape[3] == 1 else {3}
    points: list[list[float]] = []
    for number, row in enumerate(rows[start:], start=start + 1):
        if len(row) not in num_axes or not all(_is_number(cell) for cell in row):
            wanted = " or ".join(str(count) for count in sorted(num_axes))
            problem = f"row {number} is not {wanted} finite numbers: '{','.join(row)[:60]}'"
            remedy = "Write the voxel index along each axis of the image, a row a point"
            return Fault(file=file, problem=problem, remedy=remedy)
        points.append([float(cell) for cell in [*row, "0"][:3]])
    if not points:
        remedy = "Add the points, or remove the file"
        return Fault(file=file, problem="it holds no point", remedy=remedy)
    return _on_array(np.array(points), file, image)


def _on_array(stored_PA: np.ndarray, file: Path, image: Volume) -> np.ndarray | Fault:
    points_PA: np.ndarray = stored_PA @ image.from_file[:3, :3].T + image.from_file[:3, 3]
    size = np.array(image.values_CHWD.shape[1:])
    outside = ((points_PA < -0.5) | (points_PA > size - 0.5)).any(axis=1)
    if outside.any():
        first = ", ".join(f"{value:g}" for value in stored_PA[outside][0])
        problem = f"{int(outside.sum())} of {len(points_PA)} points lie outside the image: {first}"
        remedy = "Write voxel indices of this image, not millimetres, the first voxel being 0"
        return Fault(file=file, problem=problem, remedy=remedy)
    return points_PA


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False
