"""What a count or a comparison of a few cases tells for certain: estimates with their bounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist

from scipy.stats import beta

CONFIDENCE = 0.95  # of each bound on its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number in [0, 1] with the bounds between which it lies, each with `CONFIDENCE`."""

    value: float
    at_least: float
    at_most: float


def share(count: int, of: int) -> Estimate:
    """Return a share with its exact bounds (Clopper and Pearson 1934).

    Args:
        count: How many were found, 0 to `of`.
        of: How many were looked at, at least one.
    """
    lower = beta.ppf(1 - CONFIDENCE, count, of - count + 1) if count else 0.0
    upper = beta.ppf(CONFIDENCE, count + 1, of - count) if count < of else 1.0
    return Estimate(value=count / of, at_least=float(lower), at_most=float(upper))


def separation(members: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return the area under the ROC curve of telling members by their smaller numbers.

    It is the chance that a member has the smaller number, ties counting half: 0.5 where the two
    cannot be told apart. Its spread is that of DeLong et al. 1988; the bounds are taken on the
    scale of log-odds, so that they stay in [0, 1].

    Args:
        members: One number for each member, at least two.
        others: One for each of the others, at least two.
    """
    pairs = len(members) * len(others)
    wins = [[(m < o) + (m == o) / 2 for o in others] for m in members]
    area = sum(map(sum, wins)) / pairs
    by_member = [sum(row) / len(others) for row in wins]
    by_other = [sum(column) / len(members) for column in zip(*wins, strict=True)]
    spread = sqrt(_variance(by_member) / len(members) + _variance(by_other) / len(others))
    # Where the two are wholly apart no spread is seen; half a pair less is as far as that tells.
    inner = min(max(area, 0.5 / pairs), 1 - 0.5 / pairs)
    spread = max(spread, 0.5 / pairs)
    reach = NormalDist().inv_cdf(CONFIDENCE) * spread / (inner * (1 - inner))
    odds = log(inner / (1 - inner))
    return Estimate(
        value=area,
        at_least=min(area, 1 / (1 + exp(min(reach - odds, 700.0)))),
        at_most=max(area, 1 / (1 + exp(max(-reach - odds, -700.0)))),
    )


def _variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)
