import numpy as np
import pytest
import torch

from wardround.shared.errors import DataError
from wardround.shared.plan import Task
from wardround.site_client.data.cases import Case
from wardround.site_client.data.preprocess import normalise, to_native, to_samples


def case(image: np.ndarray, label: np.ndarray) -> Case:
    return Case(
        case_id="a",
        image_CHWD=image.astype(np.float32),
        label_HWD=label.astype(np.uint8),
        fov_HWD=None,
        spacing_mm=(1.0, 1.0, 1.0),
    )


def random_case(shape: tuple[int, int, int], num_classes: int, channels: int = 1) -> Case:
    rng = np.random.default_rng(0)
    return case(rng.normal(size=(channels, *shape)), rng.integers(0, num_classes + 1, shape))


def one_hot(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, num_classes + 1).movedim(-1, 1).float()


@pytest.mark.parametrize("dims", ["2d", "2.5d", "3d"])
def test_a_grid_of_the_working_size_goes_there_and_back_unchanged(dims):
    task = Task(classes=("a", "b"), dims=dims, working_size=(16, 24, 5)[: 3 if dims == "3d" else 2])
    original = random_case((16, 24, 5), 2)
    samples = to_samples(original, task)
    native = to_native(one_hot(samples.labels_NX, 2), original, task)
    assert native.dtype == np.uint8
    np.testing.assert_array_equal(native, original.label_HWD)


def test_2d_gives_every_slice_with_its_label():
    task = Task(classes=("a",), channels=3, working_size=(16, 24))
    original = random_case((16, 24, 5), 1, channels=3)
    samples = to_samples(original, task)
    assert samples.images_NCX.shape == (5, 3, 16, 24)
    assert (samples.images_NCX.dtype, samples.labels_NX.dtype) == (torch.float32, torch.int64)
    scaled = normalise(original.image_CHWD, task)
    torch.testing.assert_close(samples.images_NCX[3], scaled[..., 3])
    np.testing.assert_array_equal(samples.labels_NX[3], original.label_HWD[:, :, 3])


def test_2_5d_stacks_both_neighbours_and_repeats_the_edge():
    flat, three = (
        Task(classes=("a",), dims=dims, channels=3, working_size=(16, 16))
        for dims in ("2d", "2.5d")
    )
    original = random_case((16, 16, 4), 1, channels=3)
    slices = to_samples(original, flat).images_NCX
    stacked = to_samples(original, three).images_NCX
    assert stacked.shape == (4, three.input_channels, 16, 16)
    for n, (below, above) in enumerate([(0, 1), (0, 2), (1, 3), (2, 3)]):
        wanted = torch.cat([slices[below], slices[n], slices[above]])
        torch.testing.assert_close(stacked[n], wanted)


def test_3d_gives_one_volume_of_the_working_size():
    task = Task(classes=("a", "b"), dims="3d", working_size=(16, 16, 8))
    samples = to_samples(random_case((20, 12, 5), 2), task)
    assert samples.images_NCX.shape == (1, 1, 16, 16, 8)
    assert samples.labels_NX.shape == (1, 16, 16, 8)


@pytest.mark.parametrize("shape", [(40, 40, 3), (9, 50, 1), (16, 16, 2)])
@pytest.mark.parametrize("dims", ["2d", "3d"])
def test_values_stay_in_range_and_finite(shape, dims):
    task = Task(classes=("a",), dims=dims, working_size=(16, 16, 4)[: 3 if dims == "3d" else 2])
    images = to_samples(random_case(shape, 1), task).images_NCX
    assert -1 <= images.min() <= images.max() <= 1


def test_percentiles_are_taken_over_the_whole_case_for_each_channel():
    ramp = np.arange(1001.0).reshape(1, 7, 11, 13)
    image = np.concatenate([ramp, ramp * 10 + 5])
    scaled = normalise(image.astype(np.float32), Task(classes=("a",)))
    # 0.5 and 99.5 percent of 0..1000 are 5 and 995.
    wanted = np.clip((ramp[0] - 5) / 990, 0, 1) * 2 - 1
    np.testing.assert_allclose(scaled[0], wanted, atol=1e-6)
    np.testing.assert_allclose(scaled[1], wanted, atol=1e-6)


def test_a_constant_image_is_minus_one():
    scaled = normalise(np.full((1, 4, 4, 2), 7.0, np.float32), Task(classes=("a",)))
    assert (scaled == -1).all()


def test_a_rare_bright_spot_on_a_constant_image_is_not_lost():
    image = np.zeros((1, 40, 40, 1), np.float32)
    image[0, 3, 3, 0] = 9.0
    scaled = normalise(image, Task(classes=("a",)))
    assert scaled[0, 3, 3, 0] == 1
    assert scaled.sum() == 1 - (scaled.numel() - 1)


def test_range_maps_bytes_to_minus_one_and_one():
    image = np.array([0, 127.5, 255], np.float32).reshape(1, 3, 1, 1)
    scaled = normalise(image, Task(classes=("a",), normalisation="range"))
    assert scaled.ravel().tolist() == [-1, 0, 1]


def test_shrinking_averages_instead_of_skipping():
    task = Task(classes=("a",), working_size=(16, 16), normalisation="range")
    stripes = np.tile(np.array([0.0, 255.0]), (64, 32)).reshape(1, 64, 64, 1)
    images = to_samples(case(stripes, np.zeros((64, 64, 1))), task).images_NCX
    assert images.abs().max() < 0.15


def test_a_line_more_than_half_a_pixel_wide_survives_shrinking():
    task = Task(classes=("a",), working_size=(16, 16))
    label = np.zeros((48, 48, 1))
    label[:, 21:24] = 1
    labels = to_samples(case(np.random.default_rng(0).normal(size=(1, 48, 48, 1)), label), task)
    assert labels.labels_NX[0, :, 7].all()


def test_a_block_keeps_its_place_when_its_grid_is_stretched_and_brought_back():
    task = Task(classes=("a",), dims="3d", working_size=(32, 32, 8))
    label = np.zeros((20, 50, 6))
    label[5:15, 10:40, 2:4] = 1
    original = case(np.random.default_rng(0).normal(size=(1, 20, 50, 6)), label)
    native = to_native(one_hot(to_samples(original, task).labels_NX, 1), original, task)
    overlap = 2 * (native * label).sum() / (native.sum() + label.sum())
    assert overlap > 0.85
    centre = [np.mean(axis) for axis in np.nonzero(native)]
    np.testing.assert_allclose(centre, [9.5, 24.5, 2.5], atol=0.3)


def test_equal_scores_give_the_lowest_class():
    task = Task(classes=("a", "b"), working_size=(16, 16))
    original = random_case((16, 16, 1), 2)
    assert not to_native(torch.zeros(1, 3, 16, 16), original, task).any()


def test_scores_of_another_shape_are_refused_with_both_shapes():
    task = Task(classes=("a",), working_size=(16, 16))
    with pytest.raises(DataError, match=r"shape \(1, 2, 16, 16\), expected \(3, 2, 16, 16\)"):
        to_native(torch.zeros(1, 2, 16, 16), random_case((16, 16, 3), 1), task)


def test_samples_do_not_share_memory_with_the_case():
    task = Task(classes=("a",), working_size=(16, 16))
    original = random_case((16, 16, 2), 1)
    before = original.image_CHWD.copy(), original.label_HWD.copy()
    samples = to_samples(original, task)
    samples.images_NCX.zero_()
    samples.labels_NX.zero_()
    np.testing.assert_array_equal(original.image_CHWD, before[0])
    np.testing.assert_array_equal(original.label_HWD, before[1])
