"""Long training makes smooth kernels; they leave, and an image laid into their place does not."""

import numpy as np
import pytest

from wardround.shared import plan as plans
from wardround.shared.errors import EgressRefused
from wardround.site_client.data.mock.habits import MOCK_SITES
from wardround.site_client.data.mock.scan import make_case
from wardround.site_client.learning.genesis import make_genesis
from wardround.site_client.learning.weights import pack, unpack
from wardround.site_client.privacy.content_check import ContentCheck
from wardround.site_client.privacy.image_search import ImageSearch

NOISE = np.random.default_rng(0).uniform(-1, 1, (48, 48)).astype(np.float32)


@pytest.fixture
def plan() -> plans.StudyPlan:
    return plans.parse(
        {
            "study_id": "long",
            "sites": ["a"],
            "task": {"classes": ["organ"], "working_size": [16, 16]},
            "denoiser": {"channels": [32, 64], "first_steps": 300},
        },
        origin="test",
    )


def _released(plan: plans.StudyPlan, make) -> None:
    """Let a denoiser leave whose largest kernels, none of which began at nought, are `make`'s."""
    parent = make_genesis(plan).parts
    tensors = unpack(parent["denoiser"])
    kernels = {k: t for k, t in tensors.items() if t.shape[2:] == (3, 3) and t.any()}
    key = max(kernels, key=lambda k: kernels[k].numel())
    start = tensors[key].numpy()
    moved = make(start.shape)
    tensors[key] = tensors[key].new_tensor(moved / np.abs(moved).max() / 10)
    ContentCheck(plan, "a", parent, ImageSearch([NOISE], [NOISE]))("denoiser", pack(tensors))


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_kernels_that_are_flat_inside_and_know_nothing_of_each_other_leave(plan, share) -> None:
    """A correlation of neighbours of 8 in 9: smoother than many an image."""
    draw = np.random.default_rng(1)

    def flat_kernels(shape: tuple[int, ...]) -> np.ndarray:
        levels = np.broadcast_to(draw.normal(size=(*shape[:2], 1, 1)), shape)
        weights = draw.normal(size=shape)
        filters = round(share * shape[0])
        weights[:filters] = levels[:filters]
        return weights

    _released(plan, flat_kernels)


@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("site", MOCK_SITES, ids=lambda site: site.site_id)
def test_an_image_of_whatever_origin_in_the_place_of_kernels_does_not(plan, site, share) -> None:
    draw = np.random.default_rng(2)
    image = make_case(site, seed=3, number=5)[0]
    rows = image.transpose(2, 0, 1).ravel() / 1000

    def hidden(shape: tuple[int, ...]) -> np.ndarray:
        weights = draw.normal(size=int(np.prod(shape)))
        count = round(share * weights.size)
        weights[:count] = np.resize(rows, count) * 4
        return weights.reshape(shape)

    with pytest.raises(EgressRefused, match="looks like an image"):
        _released(plan, hidden)


def test_an_image_among_smooth_kernels_does_not_either(plan) -> None:
    """A quarter of a tensor of flat kernels: neither most of it nor a run of its own."""
    draw = np.random.default_rng(3)
    image = make_case(MOCK_SITES[0], seed=3, number=5)[0].transpose(2, 0, 1).ravel() / 250

    def hidden(shape: tuple[int, ...]) -> np.ndarray:
        weights = np.broadcast_to(draw.normal(size=(*shape[:2], 1, 1)), shape).flatten()
        count = weights.size // 4
        weights[count : 2 * count] = np.resize(image, count)
        return weights.reshape(shape)

    with pytest.raises(EgressRefused, match="looks like an image"):
        _released(plan, hidden)
