from dataclasses import dataclass

import pytest

from wardround.site_client.learning.trimming import narrowest


@dataclass(frozen=True)
class Made:
    width: float
    dice: float


def search(dice_by_width, tolerance):
    tried = []

    def train(width):
        tried.append(width)
        return Made(width, dice_by_width[width])

    widths = sorted(dice_by_width, reverse=True)
    return narrowest(Made(1.0, 0.75), widths, train, tolerance).width, tried


@pytest.mark.parametrize(
    ("dice_by_width", "width", "tried"),
    [
        # All within 0.0625 of 0.75: the narrowest.
        ({0.5: 0.75, 0.25: 0.6875}, 0.25, [0.5, 0.25]),
        # The second falls by 0.125: the first, and the third is not tried, though it is good.
        ({0.5: 0.75, 0.25: 0.625, 0.125: 0.75}, 0.5, [0.5, 0.25]),
        # The first falls by 0.125 already: the full decoder.
        ({0.5: 0.625, 0.25: 0.75}, 1.0, [0.5]),
        # Steps of 0.0625 each: the second lies 0.125 below the full decoder, which counts.
        ({0.5: 0.6875, 0.25: 0.625}, 0.5, [0.5, 0.25]),
        ({}, 1.0, []),
    ],
)
def test_the_narrowest_before_one_that_loses_too_much_is_taken(dice_by_width, width, tried):
    assert search(dice_by_width, 0.0625) == (width, tried)
