"""The real data sets are read whole: WARDROUND_DATA, or `shared/data` beside the checkout."""

import os
from pathlib import Path

import pytest
import torch

from wardround.shared.plan import Data, Task
from wardround.site_client.data.cases import load_site
from wardround.site_client.data.check import check_folder, expected_of
from wardround.site_client.data.preprocess import to_native, to_samples
from wardround.site_client.learning.metrics import score_case

pytestmark = pytest.mark.real_data

CHAMBERS = ("right ventricle", "myocardium", "left ventricle")
TISSUES = ("fluid", "grey matter", "white matter")
VESSELS = Task(classes=("vessel",), channels=3, working_size=(384, 384))
# Folder, task, training cases, held-out cases, least Dice of a label sent to the grid and back.
SITES = [
    ("retina_vessels/chase", VESSELS, 20, 8, 1.0),
    ("retina_vessels/hrf", VESSELS, 34, 11, 1.0),
    ("retina_vessels/lesav", VESSELS, 16, 6, 1.0),
    ("retina_vessels/stare", VESSELS, 15, 5, 1.0),
    ("cardiac_acdc/dijon", Task(classes=CHAMBERS, dims="2.5d"), 44, 16, 0.85),
    (
        "cardiac_acdc/dijon",
        Task(classes=CHAMBERS, dims="3d", working_size=(64, 64, 16)),
        44,
        16,
        0.85,
    ),
    (
        "hippocampus_mr/vanderbilt",
        Task(classes=("anterior", "posterior"), dims="3d", working_size=(48, 64, 48)),
        45,
        15,
        1.0,
    ),
    ("brain_oasis2d/oasis", Task(classes=TISSUES, working_size=(128, 128)), 75, 25, 1.0),
]


@pytest.fixture
def real_data(repository: Path) -> Path:
    folder = Path(os.environ.get("WARDROUND_DATA", repository.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at '{folder}'; set WARDROUND_DATA to their folder")
    return folder


@pytest.mark.parametrize(
    ("site", "task", "num_train", "num_heldout", "least_dice"),
    SITES,
    ids=[f"{site}-{task.dims}" for site, task, *_ in SITES],
)
def test_a_real_site_is_read_and_its_labels_survive_the_grid(
    real_data, site, task, num_train, num_heldout, least_dice
):
    loaded = load_site(site.rpartition("/")[2], real_data / site, task, Data())
    assert (len(loaded.train), len(loaded.heldout)) == (num_train, num_heldout)
    case = loaded.heldout[0]
    samples = to_samples(case, task)
    assert samples.images_NCX.shape[1:] == (task.input_channels, *task.working_size)
    assert -1 <= samples.images_NCX.min() < samples.images_NCX.max() <= 1
    num_classes = len(task.classes)
    scores = torch.nn.functional.one_hot(samples.labels_NX, num_classes + 1).movedim(-1, 1)
    for score in score_case(to_native(scores, case, task), case, num_classes):
        assert score.dice >= least_dice


def test_a_folder_of_real_sites_passes_the_check(real_data):
    found = check_folder(real_data / "retina_vessels", expected_of(VESSELS))
    assert [site.site_id for site in found] == ["chase", "hrf", "lesav", "stare"]
    assert all(site.is_sound for site in found), [site.faults for site in found]
