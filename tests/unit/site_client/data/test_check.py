import numpy as np
import pytest

from wardround.shared.plan import Task
from wardround.site_client.data.check import check_folder, check_site, expected_of


def test_a_sound_site_has_a_fingerprint_and_no_fault(site):
    found = check_site(site, expected_of(None, 1))
    assert found.is_sound
    assert (found.site_id, found.layout, found.split_origin) == ("ada", "plain", "chosen")
    assert found.warnings == ()
    fingerprint = found.fingerprint
    assert fingerprint is not None
    assert (fingerprint.num_train, fingerprint.num_heldout) == (3, 1)
    assert fingerprint.shapes == {"1 x 10 x 12 x 1": 4}
    assert fingerprint.spacing_mm == (1.0, 1.0, 1.0)
    # The images are 0..119 plus 0, 1, 2, 3: the median case has the median 61.
    assert fingerprint.intensity_percentiles[2] == 61.0
    assert fingerprint.label_shares == {0: pytest.approx(100 / 120), 1: pytest.approx(20 / 120)}


def test_without_classes_any_byte_is_a_label(site, write_png):
    write_png(site / "labels" / "a.png", np.full((10, 12), 200, dtype=np.uint8))
    assert check_site(site, expected_of(None)).is_sound
    assert not check_site(site, expected_of(None, 2)).is_sound


def test_a_task_decides_over_a_number_of_classes(site):
    assert expected_of(Task(classes=("a", "b")), 9)("x").num_classes == 2


def test_a_fault_leaves_the_other_cases_in_the_fingerprint(site):
    (site / "images" / "a.png").write_bytes(b"")
    found = check_site(site, expected_of(None, 1))
    assert [fault.file.name for fault in found.faults] == ["a.png"]
    assert found.fingerprint is not None
    assert found.fingerprint.shapes == {"1 x 10 x 12 x 1": 3}


def test_a_folder_of_sites_is_checked_site_by_site(site):
    (site.parent / "ben").mkdir()
    found = check_folder(site.parent, expected_of(None, 1))
    assert [(entry.site_id, entry.is_sound) for entry in found] == [("ada", True), ("ben", False)]
    assert found[1].fingerprint is None


def test_a_folder_that_is_no_site_and_holds_none_gives_one_fault(tmp_path):
    (found,) = check_folder(tmp_path, expected_of(None))
    assert [fault.problem for fault in found.faults] == ["the layout is not known"]


def test_what_a_person_should_look_at_is_warned_of(site, write_png):
    write_png(site / "images" / "a.png", np.full((10, 12), 5, dtype=np.uint8))
    write_png(site / "labels" / "b.png", np.zeros((10, 12), dtype=np.uint8))
    warnings = "\n".join(check_site(site, expected_of(None, 2)).warnings)
    assert "image of case 'a' has the same value everywhere" in warnings
    assert "1 of 4 labels are empty, such as 'b'" in warnings
    assert "no case has label value 2" in warnings


def test_a_site_of_empty_labels_is_warned_of(site, write_png):
    for name in "abcd":
        write_png(site / "labels" / f"{name}.png", np.zeros((10, 12), dtype=np.uint8))
    warnings = check_site(site, expected_of(None, 1)).warnings
    assert warnings == ("every label is empty: nothing can be learnt or scored",)


def test_slices_far_apart_are_warned_of_in_3d_alone(tmp_path, write_nifti):
    body = np.arange(48, dtype=np.int16).reshape(4, 4, 3)
    affine = np.diag([1.0, 1, 8, 1])
    for name in "abc":
        write_nifti(tmp_path / "images" / f"{name}.nii.gz", body, affine)
        write_nifti(tmp_path / "labels" / f"{name}.nii.gz", (body > 9).astype(np.uint8), affine)
    task = Task(classes=("a",), dims="3d", working_size=(16, 16, 8))
    assert "3 of 3 volumes have slices" in check_site(tmp_path, expected_of(task)).warnings[0]
    assert check_site(tmp_path, expected_of(None, 1)).warnings == ()
