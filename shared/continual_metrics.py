"""What a study kept and what it forgot: the figures of continual learning, from R[visit, site].

R[i, j] is the Dice on site j after visit i. Row 0 is the starting model, rows 1..T are the visits
made, columns 1..N are the sites in the order of the sequence, so visit i is the visit at site i.
With T = N the sequence has been walked to its end; with T < N a study was stopped on the way or has
sites that are not visited, which come last, and every figure keeps its meaning. A cell that nobody
scored is None and left out of every mean and maximum.

    average           mean_j R[T, j]
    BWT               mean_{j<T} (R[T, j] - R[j, j])              Lopez-Paz and Ranzato 2017
    FWT               mean_{2<=j<=T} (R[j-1, j] - R[0, j])        Lopez-Paz and Ranzato 2017
    forgetting        mean_{j<T} (max_{j<=i<T} R[i, j] - R[T, j]) after Chaudhry et al. 2018
    memorizability    mean_{j<T} R[T, j];                 curve: at visit i, mean_{j<i} R[i, j]
    generalizability  mean_{1<=i<=T, i<N} of the          curve: at visit i, mean_{j>i} R[i, j]
    unseen            mean of all cells with 1 <= i < j

Forgetting follows Chaudhry et al. in that the last visit itself is not among the maxima, so a site
that ends better than it ever was counts as negative forgetting. Their maximum also runs over the
time before site j was learned; ours begins at visit j, because what was never taught cannot be
forgotten. Hence forgetting >= -BWT always. `unseen` weighs every cell alike (early visits, with
many sites ahead, count more); `generalizability` weighs every visit alike.

A figure over an empty set (a single site has no earlier and no later one) is None, never 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of the module docstring; None where a figure is not defined."""

    average: float | None
    bwt: float | None
    fwt: float | None
    forgetting: float | None
    unseen: float | None
    memorizability: float | None
    generalizability: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """One value per visit, visit 0 (the starting model) first; None where not defined.

    `average` is over all sites, `seen` over the sites visited so far with the present one,
    `memorizability` over those before the present one, `generalizability` over those still ahead.
    """

    average: tuple[float | None, ...]
    seen: tuple[float | None, ...]
    memorizability: tuple[float | None, ...]
    generalizability: tuple[float | None, ...]


def as_matrix(rows: Sequence[Sequence[float | None]]) -> Matrix:
    """Return `rows` as a checked results matrix of shape (1 + T, N), 0 <= T <= N; None is NaN.

    Raises:
        ValueError: Rows differ in length, there is no row or no column, there are more visits than
            sites, or a value is neither None nor a number in [0, 1].
    """
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            f"a results matrix needs rows of one length above 0, got lengths {sorted(lengths)}"
        )
    if any(value is not None and not 0 <= value <= 1 for row in rows for value in row):
        raise ValueError("every value of a results matrix must lie in [0, 1]")
    matrix = np.array(rows, dtype=np.float64)
    if matrix.shape[0] > matrix.shape[1] + 1:
        raise ValueError(
            f"a results matrix has at most one row per site and row 0, "
            f"got {matrix.shape[0]} rows for {matrix.shape[1]} sites"
        )
    return matrix


def summarise(rows: Sequence[Sequence[float | None]]) -> Summary:
    """Return the figures of a results matrix; `rows` as in `as_matrix`."""
    matrix = as_matrix(rows)
    visits = matrix.shape[0] - 1
    ahead = curves(rows).generalizability
    return Summary(
        average=_mean(matrix[-1]),
        bwt=_mean([matrix[visits, j - 1] - matrix[j, j - 1] for j in range(1, visits)]),
        fwt=_mean([matrix[j - 1, j - 1] - matrix[0, j - 1] for j in range(2, visits + 1)]),
        forgetting=_mean(
            [_best(matrix[j:visits, j - 1]) - matrix[visits, j - 1] for j in range(1, visits)]
        ),
        unseen=_mean([value for i in range(1, visits + 1) for value in matrix[i, i:]]),
        memorizability=_mean(matrix[visits, : max(visits - 1, 0)]),
        generalizability=_mean([value for value in ahead[1:] if value is not None]),
    )


def curves(rows: Sequence[Sequence[float | None]]) -> Curves:
    """Return how the means moved from visit to visit; `rows` as in `as_matrix`."""
    matrix = as_matrix(rows)
    return Curves(
        average=tuple(_mean(row) for row in matrix),
        seen=tuple(_mean(row[:visit]) for visit, row in enumerate(matrix)),
        memorizability=tuple(_mean(row[: max(visit - 1, 0)]) for visit, row in enumerate(matrix)),
        generalizability=tuple(_mean(row[visit:]) for visit, row in enumerate(matrix)),
    )


def _best(values: Matrix) -> float:
    return float(np.fmax.reduce(values))


def _mean(values: Sequence[float] | Matrix) -> float | None:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else None


def total(counts: Iterable[int | None]) -> int | None:
    """Return the sum of counts; None where one of them is not known."""
    listed = list(counts)
    known = [count for count in listed if count is not None]
    return sum(known) if len(known) == len(listed) else None
