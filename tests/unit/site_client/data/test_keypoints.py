"""Key points lie beside the images, in voxels of the file, and are checked like the rest."""

import nibabel
import numpy as np
import pytest

from wardround.shared.errors import DataError
from wardround.shared.plan import Data, Task
from wardround.site_client.data.cases import SiteData, load_site
from wardround.site_client.data.check import check_site, expected_of
from wardround.site_client.data.images import Volume, read_image
from wardround.site_client.data.keypoints import read_points


def a_task(kind: str = "registration") -> Task:
    return Task(kind=kind, classes=("organ",), working_size=(16, 16))


def load(folder, task: Task) -> SiteData:
    return load_site("ada", folder, task, Data())


def points_of(data: SiteData) -> dict[str, list[list[float]] | None]:
    return {
        case.case_id: None if case.points_PA is None else case.points_PA.tolist()
        for case in (*data.train, *data.heldout)
    }


def write(folder, **texts: str) -> None:
    (folder / "keypoints").mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / "keypoints" / f"{name}.csv").write_text(text, encoding="utf-8")


def test_in_a_png_columns_come_first_and_a_heading_is_passed_over(site):
    write(site, a="x,y\n3,1\n11.5, 9\n", b="0,0,0\n2,7,0\n")

    found = points_of(load(site, a_task()))

    assert found["a"] == [[1, 3, 0], [9, 11.5, 0]]
    assert found["b"] == [[0, 0, 0], [7, 2, 0]]
    assert found["c"] is found["d"] is None


def test_who_has_no_use_for_key_points_does_not_read_them(site):
    write(site, a="nonsense", nobody="1,2\n")

    data = load(site, a_task("segmentation"))

    assert set(points_of(data).values()) == {None}
    assert check_site(site, expected_of(None, 1)).is_sound


def test_other_key_points_are_another_digest(site):
    write(site, **dict.fromkeys("abcd", "3,1\n"))
    one = load(site, a_task()).digest
    write(site, a="3,2\n")
    other = load(site, a_task()).digest

    assert len({one, other, load(site, a_task("segmentation")).digest}) == 3


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "ILA"])
def test_points_turn_with_the_volume_they_lie_in(axes, tmp_path, write_nifti):
    """The brightest voxel is where its key point says, however the file is oriented."""
    values = np.zeros((4, 5, 6), dtype=np.float32)
    values[1, 3, 2] = 9
    image = nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0]))
    turned = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes)
    )
    stored = image.as_reoriented(turned)
    voxels = np.asanyarray(stored.dataobj)
    write_nifti(tmp_path / "a.nii.gz", voxels, stored.affine)
    brightest = np.unravel_index(voxels.argmax(), voxels.shape)
    (tmp_path / "a.csv").write_text(",".join(map(str, brightest)) + "\n")
    volume = read_image(tmp_path / "a.nii.gz")
    assert isinstance(volume, Volume)

    points = read_points(tmp_path / "a.csv", volume)

    assert isinstance(points, np.ndarray)
    assert volume.values_CHWD[0][tuple(points[0].astype(int))] == 9
    np.testing.assert_array_equal(points, [[1, 3, 2]])


def test_nnunet_folders_have_folders_of_key_points_of_their_own(tmp_path, write_png):
    folder = tmp_path / "ada"
    for part, names in (("Tr", "abc"), ("Ts", "de")):
        (folder / f"keypoints{part}").mkdir(parents=True)
        for name in names:
            write_png(folder / f"images{part}/{name}_0000.png", np.eye(8, dtype=np.uint8) * 9)
            write_png(folder / f"labels{part}/{name}.png", np.eye(8, dtype=np.uint8))
            (folder / f"keypoints{part}/{name}.csv").write_text("1,2\n")
    (folder / "dataset.json").write_text(
        '{"channel_names": {"0": "T2"}, "labels": {"background": 0, "organ": 1}, '
        '"numTraining": 3, "file_ending": ".png"}'
    )

    assert points_of(load(folder, a_task())) == {name: [[2, 1, 0]] for name in "abcde"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it holds no point"),
        ("x,y\n\n", "it holds no point"),
        ("1,2\n3\n", "row 2 is not 2 or 3 finite numbers: '3'"),
        ("1,2\n3,nan\n", "row 2 is not 2 or 3 finite numbers: '3,nan'"),
        ("1,2,3,4\n", "row 1 is not 2 or 3 finite numbers"),
        ("1,2\n12,0\n", "1 of 2 points lie outside the image: 12, 0"),
        ("0,-0.6\n", "1 of 1 points lie outside the image"),
        ("0,0,1\n", "1 of 1 points lie outside the image"),
    ],
)
def test_faulty_key_points_are_told_with_their_file(site, text, problem):
    write(site, a=text)

    with pytest.raises(DataError) as caught:
        load(site, a_task())

    assert problem in str(caught.value)
    assert "a.csv" in str(caught.value)


def test_a_file_that_is_no_text_is_told(site):
    write(site, a="")
    (site / "keypoints" / "a.csv").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(DataError, match="the file cannot be read"):
        load(site, a_task())


def test_a_volume_wants_three_numbers(tmp_path, write_nifti):
    write_nifti(tmp_path / "a.nii.gz", np.zeros((4, 5, 6), dtype=np.float32))
    (tmp_path / "a.csv").write_text("1,2\n")
    volume = read_image(tmp_path / "a.nii.gz")
    assert isinstance(volume, Volume)

    fault = read_points(tmp_path / "a.csv", volume)

    assert not isinstance(fault, np.ndarray)
    assert fault.problem == "row 1 is not 3 finite numbers: '1,2'"


def test_key_points_of_nobody_and_of_two_folders_are_faults(site):
    write(site, a="1,2\n", nobody="1,2\n")
    (site / "keypointsTr").mkdir()
    (site / "keypointsTr" / "a.csv").write_text("1,2\n")

    found = check_site(site, expected_of(a_task()))

    assert [fault.problem for fault in found.faults] == [
        "key points of case 'nobody', which has no image with a label",
        "case 'a' has key points in 'keypoints' as well",
    ]


def test_a_check_tells_who_has_none(site):
    write(site, a="1,2\n", b="1,2\n", c="1,2\n")

    assert check_site(site, expected_of(a_task())).warnings == (
        "1 of 4 cases have no key points, such as 'd'",
    )
