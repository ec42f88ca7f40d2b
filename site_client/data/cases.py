"""A site's cases: read once, checked wholly, before anything is trained or written.

`load_site` is what a visit uses; `examine` is the same walk for `wardround data check`, which also
wants to know what lies in a folder that is at fault.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from wardround.shared import plan
from wardround.site_client.data.faults import Fault, error_of
from wardround.site_client.data.images import Volume, read_image, read_label, same_place
from wardround.site_client.data.keypoints import read_points, with_points
from wardround.site_client.data.listing import CaseFiles, Listing
from wardround.site_client.data.readers import list_cases
from wardround.site_client.data.split import Split, divide

MAX_LABEL = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One image with its label on the grid it was stored with (see `images` for the axes).

    Attributes:
        case_id: The name shared by image and label; it never leaves the site.
        image_CHWD: float32, raw intensities; D = 1 for 2-D images.
        label_HWD: uint8, 0 (background) to the number of classes, as the plan numbers them.
        fov_HWD: bool, score inside it only; None where the whole image counts.
        spacing_mm: Distance of voxel centres along H, W, D; 1.0 for PNG.
        points_PA: float64 (P, 3), key points as voxel indices along H, W, D; None where there are
            none, or the task has no use for them.
    """

    case_id: str
    image_CHWD: np.ndarray
    label_HWD: np.ndarray
    fov_HWD: np.ndarray | None
    spacing_mm: tuple[float, float, float]
    points_PA: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteData:
    """All cases of one site. `digest` is `digest_of` both sides, whatever the files are called."""

    site_id: str
    train: tuple[Case, ...]
    heldout: tuple[Case, ...]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a site's files must look like; None leaves a point open.

    Attributes:
        channels: Image channels.
        class_names: Foreground names in label order.
        labels: Name -> stored value of the classes that the site labels; other values are
            background then.
        num_classes: Highest label value allowed.
        is_volume: Whether one slice is too few.
        has_byte_range: Whether intensities must lie in 0..255.
        has_use_for_points: Whether key points are read where there are any.
    """

    channels: int | None = None
    class_names: tuple[str, ...] | None = None
    labels: Mapping[str, int] | None = None
    num_classes: int | None = None
    is_volume: bool = False
    has_byte_range: bool = False
    has_use_for_points: bool = False

    @classmethod
    def of(cls, task: plan.Task, site_id: str) -> Self:
        """Return what `task` expects of a site."""
        return cls(
            channels=task.channels,
            class_names=task.classes,
            labels=task.labels.get(site_id),
            num_classes=len(task.classes),
            is_volume=task.dims == "3d",
            has_byte_range=task.normalisation == "range",
            has_use_for_points=task.kind == "registration",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """All that was found in a site's folder: sound cases, and every fault."""

    listing: Listing
    split: Split
    cases: tuple[Case, ...]
    faults: tuple[Fault, ...]


def load_site(site_id: str, folder: Path, task: plan.Task, data: plan.Data) -> SiteData:
    """Read and check all cases of a site.

    Args:
        site_id: For messages.
        folder: The site's data in one of the layouts of `wardround.site_client.data.readers`.
        task: What images and labels must look like.
        data: How to split, and the fewest cases allowed.

    Raises:
        DataError: Anything is at fault; the message lists the first twenty faults, each with its
            file and remedy. Nothing is written or trained before.
    """
    found = examine(folder, Expected.of(task, site_id), data)
    if found.faults:
        raise error_of(site_id, folder, found.faults)
    by_id = {case.case_id: case for case in found.cases}
    train = tuple(by_id[case_id] for case_id in found.split.train)
    heldout = tuple(by_id[case_id] for case_id in found.split.heldout)
    digest = hashlib.sha256(f"{digest_of(train)}/{digest_of(heldout)}".encode()).hexdigest()
    return SiteData(site_id=site_id, train=train, heldout=heldout, digest=digest)


def digest_of(cases: Sequence[Case]) -> str:
    """Return the SHA-256 over the content of `cases` in their order, lower-case hex.

    Content is images, labels, fields of view, key points, spacings and shapes; ids and files do not
    count.
    """
    digest = hashlib.sha256()
    for case in cases:
        digest.update(repr((case.image_CHWD.shape, case.spacing_mm)).encode())
        digest.update(np.ascontiguousarray(case.image_CHWD, dtype="<f4").tobytes())
        digest.update(np.ascontiguousarray(case.label_HWD, dtype=np.uint8).tobytes())
        if case.fov_HWD is not None:
            digest.update(b"fov" + np.packbits(case.fov_HWD).tobytes())
        if case.points_PA is not None:
            digest.update(b"points" + np.ascontiguousarray(case.points_PA, dtype="<f8").tobytes())
    return digest.hexdigest()


def examine(folder: Path, expected: Expected, data: plan.Data) -> Examination:
    """Read every case in `folder` and collect every fault; raises nothing for faulty data."""
    listing = list_cases(folder)
    if expected.has_use_for_points:
        listing = with_points(listing, folder)
    mapping, faults = _label_mapping(listing, folder, expected)
    split = divide(listing, folder, data.heldout_fraction)
    faults = [*listing.faults, *faults]
    if listing.cases and len(listing.cases) < data.min_cases:
        problem = (
            f"the site has {len(listing.cases)} whole cases, at least {data.min_cases} are needed"
        )
        remedy = "Add cases, or leave the site out of the study"
        faults.append(Fault(file=folder, problem=problem, remedy=remedy))
    else:
        faults += split.faults
    cases: list[Case] = []
    for files in listing.cases:
        case = _read_case(files, listing, expected, mapping)
        if isinstance(case, list):
            faults += case
        else:
            cases.append(case)
    return Examination(listing=listing, split=split, cases=tuple(cases), faults=tuple(faults))


def _label_mapping(
    listing: Listing, folder: Path, expected: Expected
) -> tuple[Mapping[int, int] | None, list[Fault]]:
    """Return stored value -> plan's value where `dataset.json` names every class of the plan.

    Sites number the same classes differently; where the names agree, the names decide. What the
    plan says of the site itself goes before; then a value that it does not name is background.
    """
    if expected.class_names is None:
        return None, []
    wanted = {name.casefold(): n for n, name in enumerate(expected.class_names, 1)}
    if expected.labels is not None:
        mapping = {value: wanted[name.casefold()] for name, value in expected.labels.items()}
        return mapping | {0: 0}, _otherwise_named(expected.labels, listing, folder)
    if listing.label_names is None:
        return None, []
    stored = {name.casefold(): value for name, value in listing.label_names.items()}
    if wanted.keys() <= stored.keys():
        mapping = {stored[name]: number for name, number in wanted.items()} | {0: 0}
        return (None if all(a == b for a, b in mapping.items()) else mapping), []
    contradicting = [n for n in wanted.keys() & stored.keys() if wanted[n] != stored[n]]
    if not contradicting:
        return None, []
    problem = (
        f"labels {dict(listing.label_names)} and the plan's classes {list(expected.class_names)} "
        "share some names under different numbers"
    )
    remedy = "Use the same names in both"
    return None, [Fault(file=folder / "dataset.json", problem=problem, remedy=remedy)]


def _otherwise_named(labels: Mapping[str, int], listing: Listing, folder: Path) -> list[Fault]:
    """Return a fault for each class to which `dataset.json` gives another value than the plan."""
    stored = {name.casefold(): value for name, value in (listing.label_names or {}).items()}
    return [
        Fault(
            file=folder / "dataset.json",
            problem=f"label '{name}' has the value {stored[name.casefold()]}, the plan's "
            f"task.labels says {value}",
            remedy="Correct one of them",
        )
        for name, value in labels.items()
        if stored.get(name.casefold(), value) != value
    ]


def _read_case(
    files: CaseFiles, listing: Listing, expected: Expected, mapping: Mapping[int, int] | None
) -> Case | list[Fault]:
    image = _read_channels(files)
    label = read_label(files.label_file)
    fov = read_label(files.fov_file) if files.fov_file else None
    faults = [part for part in (image, label, fov) if isinstance(part, Fault)]
    if isinstance(image, Volume):
        faults += _image_faults(image, files.image_files[0], listing, expected)
        for mask, file in ((label, files.label_file), (fov, files.fov_file)):
            if isinstance(mask, Volume) and file is not None:
                faults += _geometry_faults(image, mask, file)
    if isinstance(label, Volume):
        faults += _value_faults(label, files.label_file, expected, mapping)
    points = None
    if files.points_file is not None and isinstance(image, Volume):
        points = read_points(files.points_file, image)
        faults += [points] if isinstance(points, Fault) else []
    if faults or not isinstance(image, Volume) or not isinstance(label, Volume):
        return faults
    return Case(
        case_id=files.case_id,
        image_CHWD=image.values_CHWD,
        label_HWD=_renumber(label.values_CHWD[0], mapping),
        fov_HWD=fov.values_CHWD[0] > 0 if isinstance(fov, Volume) else None,
        spacing_mm=image.spacing_mm,
        points_PA=points if isinstance(points, np.ndarray) else None,
    )


def _read_channels(files: CaseFiles) -> Volume | Fault:
    channels: list[Volume] = []
    for file in files.image_files:
        volume = read_image(file)
        if isinstance(volume, Fault):
            return volume
        channels.append(volume)
        faults = _geometry_faults(channels[0], volume, file)
        if faults:
            return faults[0]
    values = [channel.values_CHWD for channel in channels]
    joined = values[0] if len(values) == 1 else np.concatenate(values)
    return replace(channels[0], values_CHWD=joined)


def _image_faults(image: Volume, file: Path, listing: Listing, expected: Expected) -> list[Fault]:
    faults = []
    num_channels, depth = image.values_CHWD.shape[0], image.values_CHWD.shape[3]
    for wanted, origin in (
        (expected.channels, "the plan's task.channels"),
        (listing.num_channels, "dataset.json"),
    ):
        if wanted is not None and num_channels != wanted:
            problem = f"the image has {num_channels} channels, {origin} says {wanted}"
            remedy = "Correct one of them; grey images have 1 channel, RGB images 3"
            faults.append(Fault(file=file, problem=problem, remedy=remedy))
            break
    if expected.is_volume and depth < 2:
        remedy = "Set task.dims to '2d', or give volumes"
        faults.append(Fault(file=file, problem="one slice, but task.dims is '3d'", remedy=remedy))
    low, high = float(image.values_CHWD.min()), float(image.values_CHWD.max())
    if expected.has_byte_range and (low < 0 or high > MAX_LABEL):
        problem = (
            f"intensities from {low:g} to {high:g}, but task.normalisation is 'range' (0..255)"
        )
        remedy = "Set task.normalisation to 'percentile'"
        faults.append(Fault(file=file, problem=problem, remedy=remedy))
    return faults


def _geometry_faults(image: Volume, other: Volume, file: Path) -> list[Fault]:
    expected, got = image.values_CHWD.shape[1:], other.values_CHWD.shape[1:]
    if (image.affine is None) != (other.affine is None):
        problem = "the image and this file are not both PNG or both NIfTI"
        return [Fault(file=file, problem=problem, remedy="Save both in one format")]
    if expected != got:
        problem = f"shape {_shape(got)}, but the image has {_shape(expected)}"
        remedy = "Resample it to the image's grid, or pair it with its own image"
        return [Fault(file=file, problem=problem, remedy=remedy)]
    if not same_place(image, other):
        problem = "its header places it elsewhere than the image (origin, spacing or orientation)"
        remedy = "If the voxels match, copy the image's affine to it; else resample it"
        return [Fault(file=file, problem=problem, remedy=remedy)]
    return []


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in (shape[:2] if shape[2] == 1 else shape))


def _value_faults(
    label: Volume, file: Path, expected: Expected, mapping: Mapping[int, int] | None
) -> list[Fault]:
    if expected.labels is not None:  # whatever it does not name is background
        return []
    top = MAX_LABEL if expected.num_classes is None else expected.num_classes
    allowed = set(mapping) if mapping else set(range(top + 1))
    found = np.unique(label.values_CHWD).tolist()
    if set(found) <= allowed:
        return []
    shown = ", ".join(str(value) for value in found[:12]) + (", ..." if len(found) > 12 else "")
    span = f"0..{top}" if not mapping else ", ".join(str(value) for value in sorted(allowed))
    names = f" (classes: {', '.join(expected.class_names)})" if expected.class_names else ""
    problem = f"label values {shown} found, allowed are {span}{names}"
    return [Fault(file=file, problem=problem, remedy=_value_remedy(found, top))]


def _value_remedy(found: Sequence[int], top: int) -> str:
    if top == 1 and len(found) <= 2:
        return f"Write 1 for the class instead of {max(found)}"
    if top == 1:
        return "Merge all foreground values into 1, or name every class in task.classes"
    return "Name every class in task.classes, or renumber the labels without gaps"


def _renumber(label_HWD: np.ndarray, mapping: Mapping[int, int] | None) -> np.ndarray:
    if mapping is None:
        return label_HWD.astype(np.uint8)
    table = np.zeros(MAX_LABEL + 1, dtype=np.uint8)
    for stored, wanted in mapping.items():
        table[stored] = wanted
    renumbered: np.ndarray = table[label_HWD]
    return renumbered
