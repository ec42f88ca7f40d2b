from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from wardround.site_client.data.faults import Fault
from wardround.site_client.data.images import Volume, read_image, read_label, same_place


def volume(result: Volume | Fault) -> Volume:
    assert isinstance(result, Volume), result
    return result


def fault(result: Volume | Fault) -> Fault:
    assert isinstance(result, Fault)
    return result


def test_rows_of_a_png_are_the_first_axis(tmp_path, write_png):
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = volume(read_image(write_png(tmp_path / "a.png", values)))
    assert image.values_CHWD.dtype == np.float32
    assert image.values_CHWD.shape == (1, 2, 3, 1)
    np.testing.assert_array_equal(image.values_CHWD[0, :, :, 0], values)
    assert image.spacing_mm == (1.0, 1.0, 1.0)
    assert image.affine is None


def test_a_colour_png_has_three_channels(tmp_path, write_png):
    values = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    image = volume(read_image(write_png(tmp_path / "a.PNG", values)))
    np.testing.assert_array_equal(image.values_CHWD[:, :, :, 0], np.moveaxis(values, -1, 0))


def test_a_16_bit_grey_png_keeps_its_values(tmp_path, write_png):
    values = np.array([[0, 300], [40000, 65535]], dtype=np.uint16)
    image = volume(read_image(write_png(tmp_path / "a.png", values)))
    np.testing.assert_array_equal(image.values_CHWD[0, :, :, 0], values)


def test_a_palette_label_gives_its_indices(tmp_path):
    picture = Image.fromarray(np.array([[0, 1], [2, 0]], dtype=np.uint8), mode=None)
    indexed = picture.convert("P")
    indexed.putdata([0, 1, 2, 0])
    indexed.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    indexed.save(tmp_path / "a.png")
    label = volume(read_label(tmp_path / "a.png"))
    assert label.values_CHWD[0, :, :, 0].tolist() == [[0, 1], [2, 0]]


def test_a_bilevel_label_is_zero_and_one(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert volume(read_label(tmp_path / "a.png")).values_CHWD.ravel().tolist() == [1, 0]


def test_a_png_with_transparency_is_a_fault_that_says_what_to_save(tmp_path, write_png):
    file = write_png(tmp_path / "a.png", np.zeros((4, 4, 4), dtype=np.uint8))
    found = fault(read_image(file))
    assert "RGBA" in found.problem
    assert "RGB PNG" in found.remedy


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SAL"])
def test_one_body_stored_in_any_orientation_is_read_as_one_array(tmp_path, axes):
    body = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    affine = np.diag([2.0, 3.0, 5.0, 1.0])
    affine[:3, 3] = (-7, 11, 13)
    original = nibabel.Nifti1Image(body, affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(axes)
    )
    nibabel.save(original.as_reoriented(turn), tmp_path / "a.nii.gz")
    image = volume(read_image(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(image.values_CHWD[0], body)
    assert image.spacing_mm == (2.0, 3.0, 5.0)
    np.testing.assert_allclose(image.affine, affine)


def test_a_last_axis_of_one_is_a_channel(tmp_path, write_nifti):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)
    image = volume(read_image(write_nifti(tmp_path / "a.nii", values)))
    np.testing.assert_array_equal(image.values_CHWD[0], values[..., 0])


def test_a_fourth_axis_holds_channels(tmp_path, write_nifti):
    values = np.arange(48, dtype=np.float32).reshape(2, 3, 4, 2)
    image = volume(read_image(write_nifti(tmp_path / "a.nii", values)))
    np.testing.assert_array_equal(image.values_CHWD, np.moveaxis(values, -1, 0))


def test_a_nifti_of_two_axes_is_one_slice(tmp_path, write_nifti):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    image = volume(read_image(write_nifti(tmp_path / "a.nii", values)))
    np.testing.assert_array_equal(image.values_CHWD, values[None, :, :, None])


def test_spacing_in_micrometres_is_converted(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.diag([500, 500, 2000, 1.0]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii")
    assert volume(read_image(tmp_path / "a.nii")).spacing_mm == (0.5, 0.5, 2.0)


def test_scaled_integers_are_read_with_their_scale(tmp_path):
    image = nibabel.Nifti1Image(np.array([[[1.5, 2.5]]]), np.eye(4))
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii")
    values = volume(read_image(tmp_path / "a.nii")).values_CHWD
    np.testing.assert_allclose(values.ravel(), [1.5, 2.5], atol=1e-3)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("keep", [0, 10, 200, 360, 0.5])
def test_a_truncated_nifti_cannot_be_read(tmp_path, write_nifti, ending, keep):
    noise = np.random.default_rng(0).normal(size=(9, 9, 9)).astype(np.float32)
    file = write_nifti(tmp_path / f"a{ending}", noise)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    found = fault(read_image(file))
    assert found.file == file
    assert "cannot be read" in found.problem
    assert str(tmp_path) not in found.problem


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"x" * 400])
def test_what_is_not_a_png_cannot_be_read(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert "cannot be read" in fault(read_image(tmp_path / "a.png")).problem


def test_a_truncated_png_cannot_be_read(tmp_path, write_png):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    file = write_png(tmp_path / "a.png", noise)
    file.write_bytes(file.read_bytes()[:600])
    assert "cannot be read" in fault(read_image(file)).problem


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_image_value_that_is_not_finite_is_a_fault(tmp_path, write_nifti, bad):
    values = np.ones((3, 3, 3), np.float32)
    values[0, 0, 0] = bad
    assert "1 of 27" in fault(read_image(write_nifti(tmp_path / "a.nii", values))).problem


def test_label_values_with_a_fraction_are_shown(tmp_path, write_nifti):
    values = np.array([[[0, 0.5, 1]]], dtype=np.float32)
    assert "[0.5]" in fault(read_label(write_nifti(tmp_path / "a.nii", values))).problem


def test_float_labels_that_are_whole_numbers_are_read(tmp_path, write_nifti):
    values = np.array([[[0, 2, 1]]], dtype=np.float64)
    label = volume(read_label(write_nifti(tmp_path / "a.nii", values)))
    assert label.values_CHWD.dtype == np.int64
    assert label.values_CHWD.ravel().tolist() == [0, 2, 1]


def test_a_header_of_absurd_size_is_a_fault_and_not_a_crash(tmp_path, write_nifti):
    file = write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8))
    content = bytearray(file.read_bytes())
    content[42:48] = np.array([32767, 32767, 32767], "<i2").tobytes()
    file.write_bytes(bytes(content))
    fault(read_image(file))


def test_rgb_voxels_are_a_fault(tmp_path):
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), kind), np.eye(4)), tmp_path / "a.nii")
    assert "voxels are of type" in fault(read_image(tmp_path / "a.nii")).problem


def test_volumes_a_voxel_apart_are_not_in_the_same_place(tmp_path: Path, write_nifti):
    values = np.zeros((4, 4, 4), np.uint8)
    moved, rounded = np.eye(4), np.eye(4)
    moved[0, 3] = 1.0
    rounded[0, 3] = 1e-4
    one = volume(read_image(write_nifti(tmp_path / "one.nii", values)))
    assert same_place(one, volume(read_image(write_nifti(tmp_path / "b.nii", values, rounded))))
    assert not same_place(one, volume(read_image(write_nifti(tmp_path / "c.nii", values, moved))))
