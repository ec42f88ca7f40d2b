"""How narrow may a decoder be? A search from wide to narrow that stops where it costs too much.

Continual Segment (Ji et al. 2023, arXiv:2302.00162) trims each decoder progressively, a narrower
student taught by the full decoder, and keeps the smallest that is still good enough. The paper
leaves the search space open; here it is the widths that the plan lists.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Scored(Protocol):
    """A decoder with its mean Dice on validation cases."""

    @property
    def dice(self) -> float:
        """Return the Dice, in [0, 1]."""
        ...


_S = TypeVar("_S", bound=Scored)


def narrowest(
    full: _S, widths: Sequence[float], train: Callable[[float], _S], tolerance: float
) -> _S:
    """Return the last of ever narrower decoders whose Dice is within `tolerance` of the full one's.

    Args:
        full: The decoder of full width.
        widths: Shares of the full width, falling; none is tried after one that lost too much.
        train: Trains a decoder of a width.
        tolerance: How much Dice may be lost, compared with `full` each time, so that small losses
            do not add up.
    """
    chosen = full
    for width in widths:
        tried = train(width)
        if tried.dice < full.dice - tolerance:
            break
        chosen = tried
    return chosen
