import pytest
import torch

from wardround.shared.plan import Segmenter, Task
from wardround.site_client.learning.familiarity import describe, strangeness, summary, trust
from wardround.site_client.learning.split_network import build_decoder

TASK = Task(classes=("a",), working_size=(16, 16))


@pytest.fixture
def decoder():
    return build_decoder(TASK, Segmenter(features=(4, 2)), 0.5, 0)


def deepest(images_BCX):
    """An encoder whose only feature map is the image: two channels."""
    return [images_BCX]


def images(*means):
    """Images of two channels with the given means, which vary within the image."""
    waves = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
    return torch.tensor(means)[:, :, None, None] + waves


def test_an_image_is_summed_up_by_the_mean_of_each_channel_of_the_deepest_map():
    features = [torch.rand(2, 4, 8, 8), images((1.0, 2.0), (3.0, 5.0))]
    assert summary(features).tolist() == [[1.0, 2.0], [3.0, 5.0]]


def test_a_decoder_carries_mean_and_variance_of_its_sites_images(decoder):
    # Means 2 and 0; variances 1 and 4, and to each a hundredth of their mean of 2.5.
    describe(decoder, deepest, images((1.0, 2.0), (3.0, -2.0)), TASK)
    assert decoder.seen_mean.tolist() == [2.0, 0.0]
    assert decoder.seen_variance.tolist() == pytest.approx([1.025, 4.025])


def test_patches_are_looked_at_where_patches_are_trained_on(decoder):
    task = Task(classes=("a",), working_size=(32, 32), patch_size=(16, 16))
    framed = torch.zeros(1, 2, 32, 32)
    framed[..., 8:24, 8:24] = 1.0
    describe(decoder, deepest, framed, task)
    assert decoder.seen_mean.tolist() == [1.0, 1.0]


def test_how_strange_an_image_is_and_how_far_it_is_trusted(decoder):
    decoder.seen_mean.copy_(torch.tensor([1.0, 0.0]))
    decoder.seen_variance.copy_(torch.tensor([1.0, 4.0]))
    # Standard scores (0, 0), (1, 1), (4, 0) and (4, 4): root mean squares 0, 1, 2.83 and 4.
    summaries = torch.tensor([[1.0, 0.0], [2.0, 2.0], [5.0, 0.0], [5.0, 8.0]])
    assert strangeness(decoder, summaries).tolist() == pytest.approx([0, 1, 8**0.5, 4])
    assert trust(decoder, summaries).tolist() == pytest.approx([1, 1, 4 / 8, 4 / 16])
