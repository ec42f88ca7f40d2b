"""Which generated images are copies: much nearer to one training case than to any other.

A distance alone does not tell. An image that is smooth and ordinary is near to all others, and one
site's cases lie closer together than another's. So the distance to the nearest training case is
taken in units of the mean distance to the cases next nearest, as Carlini et al. 2023
(arXiv:2301.13188, section 4.1) do for images; here the unit is a case, since slices of one volume
are alike. How small this *closeness* can be by chance the held-out cases say: nobody trained on
them, they are compared with the same training cases, so with as many, and a generated image is a
copy where it is closer than all but a small share of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# N pictures, R references, K training cases

NEXT_NEAREST = 5  # cases whose mean distance is the unit
CHANCE = 0.05  # share of the held-out images that are as close by chance
SLACK = 0.7  # of the closeness that is so reached: held-out cases are few, and have their own luck
NEAR = 0.25
HUB = 0.3  # a case that so many held-out images are nearest to is near to everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What was found among generated images.

    Attributes:
        is_copy_N: Which of them are copies, (N,) bool.
        num_same_case: How many of them have the same nearest training case, at most. They count
            where they are closer to it than all but a share `NEAR` of the held-out images are to
            theirs, for images that show nothing yet are all alike. Cases that are nearest to a
            share `HUB` of the held-out images too do not count.
    """

    is_copy_N: Tensor
    num_same_case: int


def find_copies(
    generated_NR: Tensor, heldout_NR: Tensor, sizes: Sequence[int], heldout_sizes: Sequence[int]
) -> Copies:
    """Return which generated images are copies.

    Args:
        generated_NR: Distance of each generated image to each training image.
        heldout_NR: The same of held-out images.
        sizes: How many images each training case has, in the order of the columns.
        heldout_sizes: The same of held-out cases, in the order of the rows.
    """
    closeness_N, nearest_N = closeness(generated_NR, sizes)
    chance_N, chance_nearest_N = closeness(heldout_NR, sizes)
    threshold = SLACK * _low_quantile(chance_N, heldout_sizes, CHANCE)
    is_near_N = closeness_N < _low_quantile(chance_N, heldout_sizes, NEAR)
    by_chance_K = chance_nearest_N.bincount(minlength=len(sizes)) / len(chance_nearest_N)
    drawn_K = nearest_N[is_near_N].bincount(minlength=len(sizes)) * (by_chance_K < HUB)
    return Copies(is_copy_N=closeness_N < threshold, num_same_case=int(drawn_K.max()))


def closeness(distances_NR: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return how close each picture is to its nearest case, in units of the next, and which it is.

    0 is a copy, 1 is no nearer than to the next.

    Args:
        distances_NR: Distance of each picture to each image of the training cases.
        sizes: How many images each case has; at least two cases.
    """
    of_case_NK = torch.stack([part.amin(dim=1) for part in distances_NR.split(list(sizes), 1)], 1)
    ordered_NK, cases_NK = of_case_NK.sort(dim=1)
    unit_N = ordered_NK[:, 1 : 1 + NEXT_NEAREST].mean(dim=1)
    return ordered_NK[:, 0] / unit_N.clamp(min=1e-6), cases_NK[:, 0]


def _low_quantile(values_N: Tensor, sizes: Sequence[int], portion: float) -> Tensor:
    """Return the value that a share `portion` is below, each case counting the same."""
    ordered, rank = values_N.sort()
    weights = torch.cat([torch.full((size,), 1 / (size * len(sizes))) for size in sizes])[rank]
    place = int(torch.searchsorted(weights.cumsum(0), torch.tensor(portion)))
    return ordered[min(place, len(ordered) - 1)]
