import shutil

import numpy as np
import pytest

from wardround.shared.errors import DataError
from wardround.shared.plan import Data, Task
from wardround.site_client.data.cases import load_site

ORGAN = Task(classes=("organ",), working_size=(16, 16))


def message(folder, task=ORGAN, data=None) -> str:
    with pytest.raises(DataError) as caught:
        load_site("ada", folder, task, data or Data())
    return str(caught.value)


def test_a_sound_site_is_read_in_the_order_of_its_ids(site):
    (site / "split.csv").write_text("case,split\na,train\nb,test\nc,train\nd,test\n")
    loaded = load_site("ada", site, ORGAN, Data())
    assert [case.case_id for case in loaded.train] == ["a", "c"]
    assert [case.case_id for case in loaded.heldout] == ["b", "d"]
    case = loaded.train[0]
    assert (case.image_CHWD.dtype, case.label_HWD.dtype) == (np.float32, np.uint8)
    assert (case.image_CHWD.shape, case.label_HWD.shape) == ((1, 10, 12, 1), (10, 12, 1))
    assert case.fov_HWD is None


def test_the_digest_follows_the_content_and_not_the_folder(site, tmp_path, write_png):
    copy = tmp_path / "elsewhere"
    shutil.copytree(site, copy)
    digest = load_site("ada", site, ORGAN, Data()).digest
    assert load_site("ben", copy, ORGAN, Data()).digest == digest
    label = np.zeros((10, 12), dtype=np.uint8)
    write_png(copy / "labels" / "a.png", label)
    assert load_site("ada", copy, ORGAN, Data()).digest != digest


def test_the_digest_follows_the_split(site):
    (site / "split.csv").write_text("case,split\na,train\nb,test\nc,train\nd,test\n")
    one = load_site("ada", site, ORGAN, Data()).digest
    (site / "split.csv").write_text("case,split\na,test\nb,train\nc,train\nd,test\n")
    assert load_site("ada", site, ORGAN, Data()).digest != one


def test_the_field_of_view_is_read(site, write_png):
    for name in "abcd":
        write_png(site / "fov" / f"{name}.png", np.full((10, 12), 255, dtype=np.uint8))
    case = load_site("ada", site, ORGAN, Data()).train[0]
    assert case.fov_HWD is not None
    assert case.fov_HWD.dtype == np.bool_
    assert case.fov_HWD.all()


def test_a_missing_label_is_named(site):
    (site / "labels" / "b.png").unlink()
    text = message(site)
    assert "1 fault in" in text
    assert "labels/b.png: missing, while 'images/b.png' is there. Add the label" in text


def test_a_missing_label_is_named_once_though_it_has_a_split_row(site):
    (site / "split.csv").write_text("case,split\na,train\nb,test\nc,train\nd,test\n")
    (site / "labels" / "b.png").unlink()
    assert "1 fault in" in message(site)


def test_a_missing_image_is_named(site):
    (site / "images" / "b.png").unlink()
    assert "images/b.png: missing, while 'labels/b.png' is there" in message(site)


def test_a_label_of_another_shape_shows_both_shapes(site, write_png):
    write_png(site / "labels" / "b.png", np.zeros((12, 10), dtype=np.uint8))
    assert "labels/b.png: shape 12 x 10, but the image has 10 x 12" in message(site)


def test_a_field_of_view_of_another_shape_is_named(site, write_png):
    for name in "abcd":
        write_png(site / "fov" / f"{name}.png", np.ones((10, 12), dtype=np.uint8))
    write_png(site / "fov" / "b.png", np.ones((5, 5), dtype=np.uint8))
    assert "fov/b.png: shape 5 x 5" in message(site)


def test_a_missing_field_of_view_is_named(site, write_png):
    write_png(site / "fov" / "a.png", np.ones((10, 12), dtype=np.uint8))
    assert "fov/b.png: case 'b' has no field-of-view mask" in message(site)


def test_a_label_value_out_of_range_shows_what_is_allowed_and_how_to_mend_it(site, write_png):
    label = np.zeros((10, 12), dtype=np.uint8)
    label[0, :3] = (1, 2, 7)
    write_png(site / "labels" / "b.png", label)
    text = message(site)
    assert "labels/b.png: label values 0, 1, 2, 7 found, allowed are 0..1 (classes: organ)" in text
    assert "Merge all foreground values into 1" in text
    two = Task(classes=("a", "b"), working_size=(16, 16))
    assert "Name every class in task.classes" in message(site, two)


def test_a_binary_label_of_0_and_255_gets_its_own_remedy(site, write_png):
    label = np.zeros((10, 12), dtype=np.uint8)
    label[0, 0] = 255
    write_png(site / "labels" / "b.png", label)
    assert "Write 1 for the class instead of 255" in message(site)


def test_colour_where_grey_is_expected_is_named(site, write_png):
    write_png(site / "images" / "b.png", np.zeros((10, 12, 3), dtype=np.uint8))
    assert "images/b.png: the image has 3 channels, the plan's task.channels says 1" in message(
        site
    )


def test_a_site_with_two_cases_is_refused(site):
    for name in "cd":
        (site / "images" / f"{name}.png").unlink()
        (site / "labels" / f"{name}.png").unlink()
    assert "the site has 2 whole cases, at least 3 are needed" in message(site)


def test_one_slice_is_too_few_for_3d(site):
    task = Task(classes=("organ",), dims="3d", working_size=(16, 16, 8))
    assert "one slice, but task.dims is '3d'" in message(site, task)


def test_range_normalisation_refuses_what_lies_outside_a_byte(site, write_png):
    write_png(site / "images" / "b.png", np.full((10, 12), 3000, dtype=np.uint16))
    task = Task(classes=("organ",), working_size=(16, 16), normalisation="range")
    assert "intensities from 3000 to 3000" in message(site, task)


def test_an_unreadable_file_is_named(site):
    (site / "images" / "b.png").write_bytes(b"not an image")
    assert "images/b.png: the file cannot be read" in message(site)


def test_a_folder_that_is_missing_is_named(tmp_path):
    assert f"{tmp_path / 'gone'}: there is no such folder" in message(tmp_path / "gone")


def test_an_unknown_layout_names_the_three_that_are_known(tmp_path):
    text = message(tmp_path)
    assert "the layout is not known" in text
    for name in ("nnU-Net v2", "Medical Segmentation Decathlon", "plain"):
        assert name in text


def test_a_site_without_any_image_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    assert "no image found (endings read: .nii.gz, .nii, .png)" in message(tmp_path)


def test_all_faults_are_in_one_message(site, write_png):
    (site / "labels" / "a.png").unlink()
    write_png(site / "labels" / "b.png", np.zeros((3, 3), dtype=np.uint8))
    (site / "images" / "c.png").write_bytes(b"")
    text = message(site)
    assert "3 faults" in text
    assert all(name in text for name in ("labels/a.png", "labels/b.png", "images/c.png"))


def test_only_the_first_twenty_faults_are_listed(site, write_png):
    for number in range(30):
        write_png(site / "images" / f"x{number:02}.png", np.zeros((4, 4), dtype=np.uint8))
    text = message(site)
    assert "30 faults" in text
    assert "and 10 more" in text
    assert "labels/x19.png" in text
    assert "labels/x20.png" not in text


def test_two_files_of_one_name_are_named(site, write_png):
    write_png(site / "images" / "b.PNG", np.zeros((10, 12), dtype=np.uint8))
    assert "case 'b' has two files" in message(site)


def test_hidden_files_and_other_endings_are_passed_over(site):
    (site / "images" / "._a.png").write_bytes(b"x")
    (site / "images" / ".DS_Store").write_bytes(b"x")
    (site / "labels" / "Thumbs.db").write_bytes(b"x")
    assert load_site("ada", site, ORGAN, Data()).train


def test_a_label_placed_elsewhere_than_its_image_is_named(tmp_path, write_nifti):
    moved = np.eye(4)
    moved[2, 3] = 4.0
    for name in "abc":
        write_nifti(tmp_path / "images" / f"{name}.nii.gz", np.zeros((4, 4, 3), np.int16))
        affine = moved if name == "b" else None
        write_nifti(tmp_path / "labels" / f"{name}.nii.gz", np.zeros((4, 4, 3), np.uint8), affine)
    text = message(tmp_path)
    assert "1 fault" in text
    assert "labels/b.nii.gz: its header places it elsewhere" in text


def test_a_label_stored_in_another_orientation_is_matched_by_its_header(tmp_path, write_nifti):
    body = np.arange(24).reshape(2, 3, 4)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = 1.0
    for name in "abc":
        write_nifti(tmp_path / "images" / f"{name}.nii", body.astype(np.int16))
        label = (body > 11).astype(np.uint8)
        write_nifti(tmp_path / "labels" / f"{name}.nii", label[::-1].copy(), flip)
    case = load_site("ada", tmp_path, ORGAN, Data()).train[0]
    np.testing.assert_array_equal(case.label_HWD, case.image_CHWD[0] > 11)


def test_a_png_label_of_a_nifti_image_is_named(tmp_path, write_nifti, write_png):
    for name in "abc":
        write_nifti(tmp_path / "images" / f"{name}.nii", np.zeros((4, 4), np.int16))
        write_png(tmp_path / "labels" / f"{name}.png", np.zeros((4, 4), np.uint8))
    assert "not both PNG or both NIfTI" in message(tmp_path)


def test_a_nan_image_is_named(tmp_path, write_nifti):
    for name in "abc":
        values = np.full((4, 4, 3), np.nan if name == "b" else 1, np.float32)
        write_nifti(tmp_path / "images" / f"{name}.nii", values)
        write_nifti(tmp_path / "labels" / f"{name}.nii", np.zeros((4, 4, 3), np.uint8))
    assert "images/b.nii: 48 of 48 image values are NaN or infinite" in message(tmp_path)


HEART = Task(classes=("ventricle", "muscle"), labels={"ada": {"muscle": 7}}, working_size=(16, 16))


def a_label(*values: int) -> np.ndarray:
    return np.tile(np.array([0, 0, *values], dtype=np.uint8), (10, 12 // (len(values) + 2)))


def test_a_site_that_labels_one_class_has_it_in_the_plans_number_and_nothing_else(site, write_png):
    for name in "abcd":
        write_png(site / "labels" / f"{name}.png", a_label(7, 3))
    label = load_site("ada", site, HEART, Data()).train[0].label_HWD
    assert label[0, :4, 0].tolist() == [0, 0, 2, 0]


def test_a_site_without_an_entry_labels_all_classes_and_a_strange_value_is_a_fault(site, write_png):
    write_png(site / "labels" / "b.png", a_label(7, 2))
    with pytest.raises(DataError, match=r"b.png: label values 0, 2, 7 found, allowed are 0..2"):
        load_site("ben", site, HEART, Data())


def test_a_description_that_gives_a_class_another_value_than_the_plan_is_named(
    tmp_path, write_nifti
):
    cube = np.ones((4, 4, 2))
    for name in "abc":
        write_nifti(tmp_path / "imagesTr" / f"{name}_0000.nii.gz", cube)
        write_nifti(tmp_path / "labelsTr" / f"{name}.nii.gz", cube.astype(np.uint8))
    (tmp_path / "dataset.json").write_text(
        '{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "Muscle": 1}, '
        '"file_ending": ".nii.gz", "numTraining": 3}'
    )
    fault = "label 'muscle' has the value 1, the plan's task.labels says 7. Correct one of them"
    assert fault in message(tmp_path, HEART)
