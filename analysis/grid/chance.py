"""What the best of several trials gains by chance alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache

from .arms import OTHER_SEEDS, Scored


@cache
def expected_maximum(count: int) -> float:
    """The mean of the largest of `count` independent standard normal numbers, n ∫ x φ(x) Φ(x)^(n−1) dx.

    >>> round(expected_maximum(1), 4), round(expected_maximum(2), 4), round(expected_maximum(5), 4)
    (0.0, 0.5642, 1.163)
    """
    from scipy.integrate import quad
    from scipy.stats import norm

    return float(quad(lambda x: count * x * norm.pdf(x) * norm.cdf(x) ** (count - 1), -10, 10)[0])


def spread(arms: Iterable[Scored]) -> float | None:
    """The standard deviation of scores over seeds, pooled over the rates and arms that have two seeds or more; None
    where none has."""
    parts = [part for arm in arms for part in arm.variances]
    freedom = sum(part[0] for part in parts)
    return math.sqrt(math.fsum(part[1] for part in parts) / freedom) if freedom else None


def of_unequal(more: Scored, fewer: Scored) -> str:
    """What the arm with more rates gains over the other if all rates are equally good, in words."""
    many, few = len(more.rates), len(fewer.rates)
    wins = f"of two equal methods the one with more has the better best score in {many / (many + few):.0%} of cases"
    deviation = spread((more, fewer))
    if deviation is None:
        return f"{wins}; by how much is not computed, since no rate has two seeds"
    averaged = max(len(more.seeds) - (more.chosen_by == OTHER_SEEDS), 1)
    gain = deviation / math.sqrt(averaged) * (expected_maximum(many) - expected_maximum(few))
    return f"{wins}, and on average by {gain:.2g} at the seeds' standard deviation of {deviation:.2g}"
