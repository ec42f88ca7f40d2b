"""A copy is found however it was moved, mirrored or brightened; an ordinary image is none."""

import pytest
import torch

from wardround.shared.plan import Task
from wardround.site_client.privacy.copies import closeness, find_copies
from wardround.site_client.privacy.likeness import distances

WHOLE = Task(classes=("organ",), working_size=(32, 32))
PATCHES = Task(classes=("organ",), working_size=(48, 48), patch_size=(16, 16))


def smooth(count: int, size: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return made-up pictures (count, 1, *size) without noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((count, 1, *(max(4, side // 6) for side in size)), generator=generator)
    mode = "bicubic" if len(size) == 2 else "trilinear"
    return torch.nn.functional.interpolate(coarse, size, mode=mode) / 3


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: 0.4 * image - 0.3,
        lambda image: image.flip(2),
        lambda image: torch.roll(image, (1, -2), (2, 3)),
        lambda image: image + 0.05 * torch.randn(image.shape, generator=torch.Generator()),
    ],
    ids=["as it is", "darker", "mirrored", "moved", "noisy"],
)
def test_an_image_is_found_again(change):
    known = smooth(8, WHOLE.working_size, seed=1)
    found = distances(change(known[3:4]), known, WHOLE)
    assert found.argmin() == 3
    assert found[0, 3] < 0.1 < found[0, [0, 1, 2, 4, 5, 6, 7]].min()


def test_a_patch_is_found_wherever_it_was_cut():
    known = smooth(5, PATCHES.working_size, seed=2)
    found = distances(known[2:3, :, 20:36, 7:23], known, PATCHES)
    assert found.argmin() == 2
    assert found[0, 2] == pytest.approx(0, abs=1e-4)


def test_volumes_are_compared_too():
    task = Task(classes=("organ",), dims="3d", working_size=(16, 16, 8))
    known = smooth(4, task.working_size, seed=3)
    assert distances(known, known, task).argmin(dim=1).tolist() == [0, 1, 2, 3]


def test_a_picture_of_nothing_is_like_none():
    known = smooth(3, WHOLE.working_size, seed=4)
    assert distances(torch.zeros(1, 1, 32, 32), known, WHOLE).tolist() == [[1.0, 1.0, 1.0]]


def test_closeness_is_in_units_of_the_cases_next_nearest():
    # Two images of each of three cases; nearest by case: 0.2, 0.4, 0.6.
    of_images = torch.tensor([[0.9, 0.2, 0.4, 0.5, 0.6, 0.8]])
    close, nearest = closeness(of_images, [2, 2, 2])
    assert close.item() == pytest.approx(0.2 / 0.5)
    assert nearest.item() == 0


def test_what_is_closer_than_heldout_cases_ever_are_is_a_copy():
    heldout = torch.tensor([[0.5, 0.6, 0.7], [0.6, 0.5, 0.7]])
    copies = find_copies(
        torch.tensor([[0.05, 0.6, 0.6], [0.5, 0.6, 0.6]]), heldout, [1, 1, 1], [1, 1]
    )
    assert copies.is_copy_N.tolist() == [True, False]
    assert copies.num_same_case == 0  # half of the held-out images are nearest to it too


def test_a_case_that_most_images_are_nearest_to_is_counted():
    heldout = torch.tensor([[0.5, 0.6, 0.7, 0.8], [0.7, 0.5, 0.6, 0.8]] * 5)
    near, far = [0.6, 0.6, 0.7, 0.4], [0.6, 0.6, 0.6, 0.59]
    generated = torch.tensor([near] * 3 + [far] * 5 + [[0.7, 0.6, 0.3, 0.6]])
    assert find_copies(generated, heldout, [1] * 4, [1] * 10).num_same_case == 3


def test_every_heldout_case_counts_the_same_whatever_its_slices():
    # A volume of 97 slices that are close by chance, and three that are not, as single slices.
    close, far = torch.tensor([[0.1, 0.5, 0.5]]), torch.tensor([[0.5, 0.5, 0.5]])
    heldout = torch.cat([far.expand(97, 3), close.expand(3, 3)])
    by_case = find_copies(torch.tensor([[0.3, 0.5, 0.5]]), heldout, [1, 1, 1], [97, 1, 1, 1])
    by_slice = find_copies(torch.tensor([[0.3, 0.5, 0.5]]), heldout, [1, 1, 1], [1] * 100)
    assert not by_case.is_copy_N.item()  # three cases of four have 0.2
    assert by_slice.is_copy_N.item()  # three of a hundred have
