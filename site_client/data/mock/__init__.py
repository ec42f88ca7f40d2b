"""Six made-up prostate-MRI sites, each with its own habits, in the nnU-Net v2 layout.

Anatomy is drawn per case (`anatomy`); then each site images and contours it in its own way (`scan`)
by its own habits (`habits`): field of view, resolution, plane angulation, tissue contrast, bias
field, endorectal coil, blur, noise, ghosts, storage orientation, the mix of small and enlarged
glands, and what its readers count as prostate. None of it comes from a patient.
"""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from wardround.shared.errors import DataError, UsageError
from wardround.site_client.data.mock.habits import MOCK_SITES, SiteHabits
from wardround.site_client.data.mock.scan import make_case


def write_mock_sites(
    root: Path,
    num_cases: int,
    seed: int,
    *,
    num_heldout: int | None = None,
    sites: tuple[SiteHabits, ...] = MOCK_SITES,
) -> dict[str, Path]:
    """Write the mock sites under `root`, one nnU-Net v2 data set each.

    Args:
        root: Folder that gets one folder per site; made where it is missing.
        num_cases: Cases per site, at least 3.
        seed: Seed of every draw; same seed, same bytes. How many cases there are changes none.
        num_heldout: How many of them, the last ones, become test cases (`imagesTs`); a quarter,
            rounded down, at least one, where it is None.
        sites: Which habits to write.

    Returns:
        The folder of each site, by site id.

    Raises:
        UsageError: `num_cases` is below 3, or fewer than 2 of them would be left to train on.
        DataError: A site's folder exists already.
    """
    if num_cases < 3:
        raise UsageError(f"a mock site needs at least 3 cases, got {num_cases}. Ask for more.")
    num_test = max(1, num_cases // 4) if num_heldout is None else num_heldout
    if not 1 <= num_test <= num_cases - 2:
        raise UsageError(
            f"of {num_cases} cases of a mock site 1 to {num_cases - 2} can be held out, "
            f"got {num_test}. Hold out fewer or make more cases."
        )
    folders = {habits.site_id: root / habits.site_id for habits in sites}
    for folder in folders.values():
        if folder.exists():
            raise DataError(f"'{folder}' exists already. Remove it or choose another folder.")
    for habits in sites:
        _write_site(folders[habits.site_id], habits, num_cases, num_test, seed)
    return folders


def _write_site(folder: Path, habits: SiteHabits, num_cases: int, num_test: int, seed: int) -> None:
    for sub in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / sub).mkdir(parents=True)
    for number in range(num_cases):
        image, label, affine = make_case(habits, seed, number)
        part = "Ts" if number >= num_cases - num_test else "Tr"
        case_id = f"{habits.site_id}_{number:03d}"
        _save(folder / f"images{part}" / f"{case_id}_0000.nii.gz", image, affine, habits.axes)
        _save(folder / f"labels{part}" / f"{case_id}.nii.gz", label, affine, habits.axes)
    description = {
        "name": f"Mock prostate MRI after {habits.institute}; made up, no patient",
        "channel_names": {"0": "T2"},
        "labels": {"background": 0, "prostate": 1},
        "numTraining": num_cases - num_test,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _save(path: Path, array: NDArray[np.generic], affine: NDArray[np.float64], axes: str) -> None:
    stored = nib.Nifti1Image(array, affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(axes))
    )
    nib.save(stored.as_reoriented(turn), path)
