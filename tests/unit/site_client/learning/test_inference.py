"""Probabilities of whole images, and their mean over an image and its mirror image."""

import torch
from torch import Tensor, nn

from wardround.shared.plan import Task
from wardround.site_client.learning.inference import mirrored_probabilities, probabilities

TASK = Task(classes=("one",), working_size=(16, 16))


class Sided(nn.Module):
    """A network whose foreground logit is the image plus ln 3 in the first half of the rows."""

    def forward(self, images_BCX: Tensor) -> Tensor:
        bias_X = torch.zeros(images_BCX.shape[2:])
        bias_X[: len(bias_X) // 2] = torch.log(torch.tensor(3.0))
        return torch.cat([torch.zeros_like(images_BCX), images_BCX + bias_X], dim=1)


def test_a_sided_network_is_averaged_over_both_views() -> None:
    """A blank image: foreground 3/4 in the first half, 1/2 in the second, 5/8 seen both ways."""
    images = torch.zeros(1, 1, 16, 16)
    one_way = probabilities(Sided(), images, TASK)[0, 1]
    assert torch.allclose(one_way[:8], torch.tensor(0.75))
    assert torch.allclose(one_way[8:], torch.tensor(0.5))
    assert torch.allclose(mirrored_probabilities(Sided(), images, TASK)[0, 1], torch.tensor(0.625))


def test_the_mirror_image_gets_the_mirrored_label() -> None:
    images = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    found = mirrored_probabilities(Sided(), images, TASK)
    turned = mirrored_probabilities(Sided(), images.flip(2), TASK)
    assert torch.allclose(turned.flip(2), found)
    assert not torch.allclose(probabilities(Sided(), images.flip(2), TASK).flip(2), found)
