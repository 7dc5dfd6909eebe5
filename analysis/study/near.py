"""Which runs say all but the same of the test examples, as copies do that were changed a little?"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lorax_lab.study.equivalence import components

APART = 0.02
"""The share of examples that is left out, those that two runs order most unlike: a copy may have some exchanged."""
NEAR = 1e-5
"""What a copy's correlation of ranks lacks to 1, at most. Of the published pairs none lacks less than 4.6e-4, that of a
seed's full updates with and without embeddings; of other seeds 1.7e-3. Low, since two updates of a language model may
agree more: what its examples lose differs mostly by the examples."""
CLOSE = 1 - 6 * APART - 0.01
"""Below this correlation of all ranks no pair is a copy: each of n examples that is left out takes at most 6 / n."""
SEVERAL = 0.1
"""At least so many different values for each example. A model that says one thing for every input has a value for each
class, and two such runs order the examples alike."""


def near(values: Mapping[str, np.ndarray]) -> list[list[str]]:
    """Groups of runs whose numbers order the test examples alike, all but `APART` of them, and are not the same.

    A shift or another scale leaves the order as it is, up to the rounding of half precision.

    Args:
        values: for each run one number for each test example, (n,).

    >>> first = np.linspace(1.0, 2.0, 100)
    >>> near({"one": first, "shifted": first + 0.1, "other": first[::-1]})
    [['one', 'shifted']]
    """
    known = {run: own for run, own in values.items() if len(np.unique(own)) >= SEVERAL * len(own)}
    if len(known) < 2:
        return []
    ranks = {run: _ranks(own) for run, own in known.items()}
    runs = list(known)
    correlations = np.corrcoef([ranks[run] for run in runs])
    pairs = set()
    for i, one in enumerate(runs):
        for j in np.flatnonzero(correlations[i, :i] > CLOSE):
            other = runs[j]
            lacking = 1 - _correlation(ranks[one], ranks[other])
            if lacking < NEAR + _rounding(known[one]) and not np.array_equal(known[one], known[other]):
                pairs.add(frozenset((one, other)))
    groups = components(dict.fromkeys(runs), lambda a, b: frozenset((a, b)) in pairs)
    return [sorted(group) for group in groups if len(group) > 1]


def _left_out(examples: int) -> int:
    return math.ceil(APART * examples)


def _ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value, equal ones at their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (counts.cumsum() - (counts - 1) / 2)[place]
    return ranks


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of the ranks of the examples that are kept."""
    kept = len(one) - _left_out(len(one))
    nearest = np.argsort(abs(one - other), kind="stable")[:kept]
    return float(np.corrcoef(one[nearest], other[nearest])[0, 1])


def _rounding(values: np.ndarray) -> float:
    """By how much half precision lowers the correlation of values with themselves shifted, twice: by (step / 2)² /
    (2 variance)."""
    step = float(np.spacing(np.float16(abs(values).mean())))
    return step**2 / (4 * float(values.var()))
