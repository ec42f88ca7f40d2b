"""Write a study plan for data that lie on this disk: look at the sites first, then propose.

Whoever has only `--help` should get a plan that runs at the first try: dimensions, channels,
classes and grid are taken from the files, everything else is a default with its meaning beside it.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wardround.deploy import plan_text
from wardround.shared import plan as plans
from wardround.shared.errors import DataError, UsageError
from wardround.site_client.data.cases import Case, Examination, Expected, examine
from wardround.site_client.data.faults import error_of
from wardround.site_client.data.readers import reader_of

Dims = Literal["2d", "2.5d", "3d"]

MAX_CLASSES = 16
DEFAULT_SIDE = 64
DEFAULT_SIDE_3D = 48
MAX_DEPTH_3D = 32
ANISOTROPIC = 3.0
FLAT = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One site as it lies on the disk."""

    site_id: str
    folder: Path
    examination: Examination

    @property
    def cases(self) -> tuple[Case, ...]:
        """Return the site's sound cases."""
        return self.examination.cases


def look(data_root: Path) -> tuple[Found, ...]:
    """Return the sites in a folder, in the order of their names.

    Args:
        data_root: A folder with one folder per site, or one site's own folder.

    Raises:
        DataError: No site is found, or a site has faults; the message lists them.
    """
    if not data_root.is_dir():
        raise DataError(f"'{data_root}' is not a folder. Name the folder that holds the sites.")
    folders = [data_root]
    if reader_of(data_root) is None:
        folders = sorted(path for path in data_root.iterdir() if path.is_dir() and reader_of(path))
    if not folders:
        raise DataError(
            f"'{data_root}' holds no site: none of its folders has dataset.json with imagesTr and "
            f"labelsTr (nnU-Net v2, Medical Segmentation Decathlon), or images and labels. "
            f"Arrange each site's files in one of these layouts."
        )
    found = []
    messages = []
    for folder in folders:
        site_id = site_id_of(folder)
        examination = examine(folder, Expected(), plans.Data())
        if examination.faults:
            messages.append(str(error_of(site_id, folder, examination.faults)))
        found.append(Found(site_id=site_id, folder=folder, examination=examination))
    if messages:
        raise DataError("\n".join(messages))
    return tuple(found)


def propose(sites: Sequence[Found], out: Path, *, dims: Dims | None, side: int | None) -> str:
    """Return the text of a plan for `sites`.

    Args:
        sites: From `look`, at least one.
        out: Where the plan will lie; folders are written relative to it where they are below it.
        dims: Taken from the data where left out.
        side: Pixels per side of the working grid; chosen where left out.

    Raises:
        DataError: Sites disagree about channels or classes, or hold what no plan can name.
        PlanError: `dims` or `side` cannot be used.
    """
    cases = [case for site in sites for case in site.cases]
    chosen = dims or _dims(cases)
    size = _working_size(cases, chosen, side)
    content: dict[str, Any] = {
        "study_id": _study_id(sites),
        "sites": [site.site_id for site in sites],
        "task": {
            "dims": chosen,
            "channels": _channels(sites),
            "classes": _classes(sites),
            "working_size": size,
        },
        **_training(chosen, prod(size)),
        "simulation": _simulation(sites, out),
    }
    plan = plans.parse(content, origin=str(out))
    return plan_text.write(plan, _notes(cases, chosen, size), _heading(sites, cases))


def site_id_of(folder: Path) -> str:
    """Return a site id made from a folder's name: lower-case letters, digits and hyphens."""
    name = folder.name or folder.resolve().name
    text = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not text or not text[0].isalpha():
        text = f"site-{text}".rstrip("-")
    return text[:32].rstrip("-")


def _dims(cases: Sequence[Case]) -> Dims:
    depths = [case.label_HWD.shape[2] for case in cases]
    if max(depths) == 1:
        return "2d"
    # Slices far apart, or few of them, give 3-D kernels little to work on.
    stretched = np.median([c.spacing_mm[2] / min(c.spacing_mm[:2]) for c in cases])
    flat = np.median([min(c.label_HWD.shape[:2]) / c.label_HWD.shape[2] for c in cases])
    return "2.5d" if stretched > ANISOTROPIC or flat > FLAT else "3d"


def _working_size(cases: Sequence[Case], dims: Dims, side: int | None) -> list[int]:
    shape = [int(np.median([case.label_HWD.shape[axis] for case in cases])) for axis in range(3)]
    most = side or (DEFAULT_SIDE_3D if dims == "3d" else DEFAULT_SIDE)
    if most < 16 or most % 8:
        raise UsageError(f"--size must be a multiple of 8, at least 16, got {most}. Try 64.")
    plane = [most if side else max(16, min(most, _eights(length))) for length in shape[:2]]
    if dims != "3d":
        return plane
    return [*plane, max(8, min(MAX_DEPTH_3D, _eights(shape[2])))]


def _eights(length: int) -> int:
    return 8 * round(length / 8)


def _channels(sites: Sequence[Found]) -> int:
    counts = {case.image_CHWD.shape[0] for site in sites for case in site.cases}
    if len(counts) > 1 or not counts <= {1, 3}:
        raise DataError(
            f"images have {sorted(counts)} channels, expected 1 (grey) or 3 (RGB), the same for "
            f"all cases of all sites. Convert the images, or leave the odd site out."
        )
    return int(counts.pop())


def _classes(sites: Sequence[Found]) -> list[str]:
    top = max(int(case.label_HWD.max()) for site in sites for case in site.cases)
    found = (site.examination.listing.label_names for site in sites)
    named = next((names for names in found if names), None)
    if named:
        names = sorted(named, key=named.__getitem__)
        if len(names) > MAX_CLASSES:
            raise DataError(
                f"dataset.json names {len(names)} classes, a plan holds at most {MAX_CLASSES}. "
                f"Merge classes in the labels."
            )
        return [_class_name(name) for name in names]
    if top == 0:
        raise DataError("every label is empty. Give labels with at least one foreground value.")
    if top > MAX_CLASSES:
        raise DataError(
            f"label values reach {top}, a plan holds at most {MAX_CLASSES} classes. "
            f"Renumber the labels: 0 background, 1 the first class, and so on."
        )
    return ["foreground"] if top == 1 else [f"class-{number}" for number in range(1, top + 1)]


def _class_name(name: str) -> str:
    return re.sub(r"[^\w -]", "-", name)[:32] or "class"


def _training(dims: Dims, pixels: int) -> dict[str, Any]:
    if dims != "3d":
        # A prompt of the usual size could hold a picture as small as that.
        most = pixels // (4 * plans.Denoiser().prompt_tokens)
        is_small = most < plans.Denoiser().prompt_width
        return {"denoiser": {"prompt_width": most // 8 * 8}} if is_small else {}
    # A volume holds what dozens of slices do, so fewer of them make a step.
    return {
        "segmenter": {"features": [8, 16, 32, 64], "batch_size": 4},
        "denoiser": {"batch_size": 4},
        "replay": {"samples_per_site": 16},
    }


def _simulation(sites: Sequence[Found], out: Path) -> dict[str, Any]:
    base = out.resolve().parent
    root = sites[0].folder.resolve().parent
    odd = {s.site_id: s.folder.name for s in sites if s.folder.name != s.site_id}
    below = root.is_relative_to(base)
    place = os.path.relpath(root, base) if below else str(root)
    return {
        "data_root": place,
        "data": {site: str(Path(place) / name) for site, name in odd.items()},
    }


def _study_id(sites: Sequence[Found]) -> str:
    folder = sites[0].folder.resolve()
    return site_id_of(folder.parent if len(sites) > 1 else folder)


def _notes(cases: Sequence[Case], dims: Dims, size: Sequence[int]) -> dict[str, str]:
    shapes = sorted({case.label_HWD.shape for case in cases})
    native = " to ".join(" x ".join(map(str, s)) for s in dict.fromkeys((shapes[0], shapes[-1])))
    return {
        "sites": "The order of the visits. Move the names about to try another one.",
        "task.dims": (
            f"Found: images of {native} pixels. 2d: slice by slice, 2.5d: with both neighbours,\n"
            "3d: whole volumes."
        ),
        "task.classes": "Label value 1 is the first name, 2 the second. Give them telling names.",
        "task.working_size": (
            f"Twice the sides cost about {8 if dims == '3d' else 4} times the time. "
            f"Chosen: {' x '.join(map(str, size))}."
        ),
        "segmenter.steps": "More steps, better scores, more time. The demo takes minutes with few.",
        "denoiser.first_steps": "Look at the replay gallery of the report: blurred means too few.",
    }


def _heading(sites: Sequence[Found], cases: Sequence[Case]) -> str:
    rows = [
        f"  {site.site_id:<20} {len(site.cases)} cases, {len(site.examination.split.heldout)} "
        f"of them held out ({site.examination.listing.layout})"
        for site in sites
    ]
    return "\n".join(
        [
            f"A study of {len(sites)} site(s) and {len(cases)} cases, proposed from the data:",
            *rows,
            "Every key is here with its default; an unknown key is an error. Check and run with",
            "  wardround plan check THIS_FILE",
            "  wardround simulate THIS_FILE --out out/my-study",
            "",
        ]
    )
