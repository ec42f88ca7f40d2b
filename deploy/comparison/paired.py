"""Is one method better than another? What pairs of studies with one seed and order say of it.

The mean difference has the 95 % interval of Student's t. The p-value is that of Wilcoxon's
signed-rank test (1945), two-sided and exact for any number of pairs: of all ways to give the ranks
their signs, the share that is at least as one-sided. With three pairs it cannot fall below 0.25,
with six not below 0.03; that is what so few pairs can tell. Below three there is none.

Pairs that share a seed or an order are not independent of each other, so intervals over several
orders of the same sites are a little too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from scipy.stats import t as student

MIN_PAIRS = 3  # for a p-value
_DIGITS = 12  # differences that agree so far are equal: the rest is rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """One method less another, over the pairs in which both have the figure.

    Attributes:
        pairs: How many.
        mean: Mean difference; None without a pair.
        low: Lower end of its 95 % interval; None below two pairs.
        high: Upper end.
        p: Of the signed-rank test; None below three pairs.
    """

    pairs: int
    mean: float | None
    low: float | None
    high: float | None
    p: float | None


def paired(differences: Sequence[float]) -> Paired:
    """Return what the differences of the pairs say."""
    n = len(differences)
    mean = fmean(differences) if n else None
    low = high = None
    if mean is not None and n > 1:
        half = float(student.ppf(0.975, n - 1)) * stdev(differences) / sqrt(n)
        low, high = mean - half, mean + half
    p = signed_rank(differences) if n >= MIN_PAIRS else None
    return Paired(pairs=n, mean=mean, low=low, high=high, p=p)


def signed_rank(differences: Sequence[float]) -> float:
    """Return the exact two-sided p-value; zeros are left out, equals share their mean rank."""
    moved = [d for d in (round(value, _DIGITS) for value in differences) if d]
    sizes = sorted(abs(d) for d in moved)
    # Twice the mean rank, so that it is whole: the first and the last place of a size, from 1.
    twice = [2 * sizes.index(abs(d)) + 1 + sizes.count(abs(d)) for d in moved]
    total, plus = sum(twice), sum(rank for d, rank in zip(moved, twice, strict=True) if d > 0)
    ways = [1] + [0] * total  # how many choices of signs give each sum of positive ranks
    for rank in twice:
        for reached in range(total, rank - 1, -1):
            ways[reached] += ways[reached - rank]
    as_one_sided = sum(ways[: min(plus, total - plus) + 1])
    return float(min(1.0, 2 * as_one_sided / 2 ** len(moved)))
