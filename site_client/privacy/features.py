"""How unlike two pictures are in the eyes of the segmenter, whose encoder is asked for both.

A picture that was changed pixel by pixel and still shows the same anatomy is near in the features
of a network that learnt this anatomy. The deepest level of the segmenter's encoder is averaged over
a coarse grid; the distance is 1 - the cosine, after the mean over the references was taken away,
which all pictures share.
"""

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wardround.shared.plan import Task
from wardround.site_client.learning.task_kinds import kind_of

# T pictures looked for, R references, N either, C channels, X spatial axes, F features

GRID = 2  # cells along each axis
BATCH = 32


def distances(
    segmenter: nn.Module, pictures_TCX: Tensor, references_RCX: Tensor, sizes: list[int], task: Task
) -> tuple[Tensor, list[int]]:
    """Return the distance of each picture to each reference, and how many each case has.

    Where samples are patches, a reference is cut into patches that overlap by half.

    Args:
        segmenter: In evaluation mode.
        pictures_TCX: Whole images or patches, as the task's samples are.
        references_RCX: Whole images of the task's working size.
        sizes: How many images each case has, in the order of the references.
        task: Which of the two samples are, and their sizes.
    """
    tiles = _tiles(references_RCX, task)
    wanted, found = (
        features(segmenter, images, task) for images in (pictures_TCX, torch.cat(tiles, 0))
    )
    each = len(found) // len(references_RCX)
    mean = found.mean(dim=0)
    cosine = F.normalize(wanted - mean, dim=1) @ F.normalize(found - mean, dim=1).T
    return 1 - cosine, [size * each for size in sizes]


@torch.no_grad()
def features(segmenter: nn.Module, images_NCX: Tensor, task: Task) -> Tensor:
    """Return what the deepest level of the encoder sees of each image, (N, F).

    A network that looks at several images at once is shown the same one for all.
    """
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        pool = F.adaptive_avg_pool2d if output.dim() == 4 else F.adaptive_avg_pool3d
        seen.append(pool(output, GRID).flatten(1))

    hook = kind_of(task).innermost(segmenter).register_forward_hook(keep)
    try:
        for batch in images_NCX.split(BATCH):
            segmenter(torch.cat([batch] * task.num_images, dim=1))
    finally:
        hook.remove()
    return torch.cat(seen)


def _tiles(images_RCX: Tensor, task: Task) -> list[Tensor]:
    """Return each image in patches of the sample's size, image by image."""
    starts = [
        sorted({*range(0, full - side + 1, max(1, side // 2)), full - side})
        for full, side in zip(images_RCX.shape[2:], task.sample_size, strict=True)
    ]
    corners = list(product(*starts))
    return [
        torch.stack(
            [
                image_CX[
                    (
                        slice(None),
                        *(
                            slice(at, at + side)
                            for at, side in zip(corner, task.sample_size, strict=True)
                        ),
                    )
                ]
                for corner in corners
            ]
        )
        for image_CX in images_RCX
    ]
