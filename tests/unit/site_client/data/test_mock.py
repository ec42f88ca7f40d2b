"""The mock sites: reproducible, readable by the ordinary reader, unlike in more than contrast."""

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from wardround.shared import plan as plans
from wardround.shared.errors import DataError, UsageError
from wardround.site_client.data.cases import load_site
from wardround.site_client.data.mock import write_mock_sites
from wardround.site_client.data.mock.habits import MOCK_SITES
from wardround.site_client.data.mock.scan import make_case

TASK = plans.Task(classes=("prostate",))


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_mock_sites(tmp_path_factory.mktemp("mock") / "sites", 4, seed=3)


def digest(folder: Path) -> str:
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content.update(path.name.encode() + (path.read_bytes() if path.is_file() else b""))
    return content.hexdigest()


def test_the_same_seed_writes_the_same_bytes(sites: dict[str, Path], tmp_path: Path) -> None:
    one = MOCK_SITES[2:3]
    again = write_mock_sites(tmp_path / "again", 4, seed=3, sites=one)["i2cvb"]
    other = write_mock_sites(tmp_path / "other", 4, seed=4, sites=one)["i2cvb"]
    assert digest(again) == digest(sites["i2cvb"])
    assert digest(other) != digest(sites["i2cvb"])


def test_more_cases_to_judge_by_leave_those_to_learn_from_as_they_are(
    sites: dict[str, Path], tmp_path: Path
) -> None:
    one = MOCK_SITES[2:3]
    more = write_mock_sites(tmp_path / "more", 5, seed=3, num_heldout=2, sites=one)["i2cvb"]
    for part, kept, added in (("Tr", 3, 0), ("Ts", 1, 1)):
        for kind in ("images", "labels"):
            few = {path.name: path for path in (sites["i2cvb"] / f"{kind}{part}").iterdir()}
            many = {path.name: path for path in (more / f"{kind}{part}").iterdir()}
            assert (len(few), len(many)) == (kept, kept + added)
            assert all(many[name].read_bytes() == few[name].read_bytes() for name in few)


@pytest.mark.parametrize("num_heldout", [0, 3])
def test_two_cases_are_left_to_learn_from(tmp_path: Path, num_heldout: int) -> None:
    with pytest.raises(UsageError, match="1 to 2 can be held out"):
        write_mock_sites(tmp_path / "m", 4, seed=0, num_heldout=num_heldout)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("habits", MOCK_SITES, ids=lambda habits: habits.site_id)
def test_a_site_is_read_by_the_ordinary_reader_whatever_its_storage_orientation(
    sites: dict[str, Path], habits: object
) -> None:
    site_id = habits.site_id
    data = load_site(site_id, sites[site_id], TASK, plans.Data())
    assert (len(data.train), len(data.heldout)) == (3, 1)
    for case in (*data.train, *data.heldout):
        assert case.image_CHWD.shape[1:] == (habits.matrix, habits.matrix, habits.num_slices)
        assert case.spacing_mm == pytest.approx(
            (habits.fov_mm / habits.matrix,) * 2 + (habits.slice_mm,), rel=1e-4
        )
        assert 0.005 < case.label_HWD.mean() < 0.4
        assert set(np.unique(case.label_HWD)) == {0, 1}


def test_the_orientation_on_disk_is_the_sites_habit(sites: dict[str, Path]) -> None:
    for habits in MOCK_SITES:
        path = next((sites[habits.site_id] / "imagesTr").iterdir())
        assert "".join(nib.aff2axcodes(nib.load(path).affine)) == habits.axes


def test_reading_restores_the_orientation_the_case_was_made_in(sites: dict[str, Path]) -> None:
    for habits in MOCK_SITES:
        image, label, _ = make_case(habits, 3, 0)
        case = load_site(habits.site_id, sites[habits.site_id], TASK, plans.Data()).train[0]
        assert np.array_equal(case.image_CHWD[0], image.astype(np.float32))
        assert np.array_equal(case.label_HWD, label)


def test_sites_differ_in_field_of_view_resolution_angulation_artefacts_anatomy_and_contouring() -> (
    None
):
    for trait in (
        "fov_mm",
        "matrix",
        "angulation_deg",
        "ghost",
        "noise",
        "enlarged",
        "contouring",
        "axes",
        "contrast",
    ):
        assert len({getattr(habits, trait) for habits in MOCK_SITES}) >= 3, trait


def test_anatomy_varies_by_case() -> None:
    volumes = [make_case(MOCK_SITES[0], 0, number)[1].sum() for number in range(12)]
    assert max(volumes) > 1.8 * min(volumes)


def test_an_existing_folder_is_not_written_into(sites: dict[str, Path]) -> None:
    before = digest(sites["hk"])
    with pytest.raises(DataError, match="exists already"):
        write_mock_sites(sites["hk"].parent, 4, seed=3)
    assert digest(sites["hk"]) == before


def test_too_few_cases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 3"):
        write_mock_sites(tmp_path / "m", 2, seed=0)
    assert not (tmp_path / "m").exists()
