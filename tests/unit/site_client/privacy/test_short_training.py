"""Layers of a denoiser that begin at nought are smooth after few steps, and leave all the same."""

import numpy as np
import pytest

from wardround.shared import plan as plans
from wardround.shared.errors import EgressRefused
from wardround.site_client.learning.genesis import make_genesis
from wardround.site_client.learning.weights import pack, unpack
from wardround.site_client.privacy.content_check import ContentCheck
from wardround.site_client.privacy.image_search import ImageSearch

NOISE = np.random.default_rng(0).uniform(-1, 1, (48, 48)).astype(np.float32)


@pytest.fixture
def plan() -> plans.StudyPlan:
    return plans.parse(
        {
            "study_id": "short",
            "sites": ["a"],
            "task": {"classes": ["organ"], "working_size": [16, 16]},
            "denoiser": {"channels": [16, 32], "first_steps": 300},
        },
        origin="test",
    )


@pytest.mark.parametrize("began_at_nought", [True, False])
def test_a_smooth_layer_leaves_where_it_began_at_nought(plan, began_at_nought: bool) -> None:
    parent = make_genesis(plan).parts
    tensors = unpack(parent["denoiser"])
    key = next(
        key
        for key, tensor in tensors.items()
        if tensor.numel() > 4096 and (not tensor.any()) == began_at_nought
    )
    wave = np.sin(np.arange(tensors[key].numel(), dtype=np.float32) / 5) / 100
    tensors[key] = tensors[key].new_tensor(wave).reshape(tensors[key].shape)
    check = ContentCheck(plan, "a", parent, ImageSearch([NOISE], [NOISE]))
    if began_at_nought:
        check("denoiser", pack(tensors))
        return
    with pytest.raises(EgressRefused, match="looks like an image"):
        check("denoiser", pack(tensors))


def test_weights_beside_ones_that_stayed_at_nought_are_no_bytes_of_an_image() -> None:
    """Kernels over few slices touch padding alone at their ends, which no training moves."""
    image = NOISE.copy()
    image[:, 0] = -1  # a black border
    share = ((image.astype(np.float64) + 1) / 2).astype("<f4")
    search = ImageSearch([share], [image])
    search.expect_absent("denoiser", share[:, :2].tobytes())  # nought and a number, in turn
    with pytest.raises(EgressRefused, match="own images"):
        search.expect_absent("denoiser", share.tobytes())
