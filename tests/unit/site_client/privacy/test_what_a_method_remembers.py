"""What a method remembers may be smooth, as importance over a kernel is; no image it may be."""

import numpy as np
import pytest

from wardround.shared.errors import EgressRefused
from wardround.site_client.privacy.image_search import ImageSearch


@pytest.fixture
def image() -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(48, 48))
    for _ in range(3):
        noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, -1, 1)) / 4
    return (noise / np.abs(noise).max()).astype(np.float32)


def test_smooth_importance_passes_where_smooth_weights_do_not(image: np.ndarray) -> None:
    search = ImageSearch([image], [image])
    smooth = np.sin(np.arange(48 * 48) / 5).astype(np.float32)

    search.expect_unlike("method", "w", smooth, smooth, is_smooth=True)
    with pytest.raises(EgressRefused, match="looks like an image"):
        search.expect_unlike("segmenter", "w", smooth, smooth, is_smooth=False)


def test_an_own_image_of_another_scale_is_found_among_what_a_method_remembers(
    image: np.ndarray,
) -> None:
    search = ImageSearch([image], [image])
    hidden = (3 * image + 1).ravel()

    with pytest.raises(EgressRefused, match="looks like an image"):
        search.expect_unlike("method", "w", hidden, hidden, is_smooth=True)
