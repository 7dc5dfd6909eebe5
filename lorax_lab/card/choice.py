"""The smallest rank whose cut is within a margin of the whole: chosen on validation, judged on test.

A cut and the whole answer the same examples, so their difference is taken example by example: most answers agree, and
what they differ by is known far better than either score. The lower end of its interval has to be within the margin,
not only the difference itself: of several cuts near the margin, one passes by luck.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

Z_ONE, Z_TWO = 1.6448536269514722, 1.959963984540054
"""Of the normal law: one-sided 95 % for choosing, two-sided 95 % for reporting."""
PSEUDO = 0.5
"""Added to each count of answers that were lost, won, kept right and kept wrong (Agresti & Min 2005): without it the
interval has no width where no answer differs."""


class Change(NamedTuple):
    """A cut's score minus the whole's, in the metric's unit, above 0 where the cut is better; with ends of intervals.
    The ends are NaN where the metric is no mean over examples."""

    difference: float
    surely: float
    """The lower end, one-sided 95 %."""
    low: float
    high: float
    """Two-sided 95 %."""


def change(whole: np.ndarray | None, cut: np.ndarray | None, difference: float, higher_is_better: bool) -> Change:
    """What a cut changes.

    Args:
        whole, cut: (n,) what each example adds to the score, right or wrong as bool or numbers; None where that is not
            known.
        difference: of the scores themselves, cut minus whole.

    >>> same = np.ones(500, dtype=bool)
    >>> [round(value, 4) for value in change(same, same, 0.0, True)]
    [0.0, -0.0033, -0.0039, 0.0039]
    """
    sign = 1.0 if higher_is_better else -1.0
    gained = sign * difference
    if whole is None or cut is None:
        return Change(gained, math.nan, math.nan, math.nan)
    middle, error = _paired(whole, cut)
    middle *= sign
    return Change(gained, middle - Z_ONE * error, middle - Z_TWO * error, middle + Z_TWO * error)


def _paired(whole: np.ndarray, cut: np.ndarray) -> tuple[float, float]:
    """The mean difference and its standard error."""
    if whole.dtype == bool and cut.dtype == bool:
        won, lost = (float(of.sum()) + PSEUDO for of in (cut & ~whole, whole & ~cut))
        n = len(whole) + 4 * PSEUDO
        middle = (won - lost) / n
        return middle, math.sqrt(max((won + lost) / n - middle**2, 0.0) / n)
    each = cut.astype(float) - whole.astype(float)
    return float(each.mean()), float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else math.inf


def chosen(changes: Mapping[int, Change], margin: float) -> int:
    """The smallest k that, with every larger one, is surely within the margin; the largest is the whole.

    Where the metric has no interval the difference itself counts.

    >>> within, out = Change(0.0, -0.01, -0.02, 0.02), Change(-0.01, -0.03, -0.04, 0.02)
    >>> chosen({0: within, 1: out, 2: within, 4: within}, 0.02)
    2
    """
    ranks = sorted(changes, reverse=True)
    smallest = ranks[0]
    for k in ranks[1:]:
        if not worst(changes[k]) >= -margin:
            break
        smallest = k
    return smallest


def worst(of: Change) -> float:
    """What a cut surely keeps to: the lower end of its interval, or its difference where it has none."""
    return of.difference if math.isnan(of.surely) else of.surely


def ranks_to_try(full: int) -> Sequence[int]:
    """0, the powers of two below `full`, and half-way between them from 4 on, then `full`.

    >>> ranks_to_try(16)
    [0, 1, 2, 3, 4, 6, 8, 12, 16]
    """
    powers = [2**i for i in range(full.bit_length())]
    return [0, *sorted({k for power in powers for k in (power, 3 * power // 2) if k < full}), full]
