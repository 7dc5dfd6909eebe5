"""Intervals and tests on scores that are paired by seed: means, non-inferiority, the smallest size that passes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from lorax_lab.store.direction import oriented

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 2000
_BLOCKS = [slice(start, start + 200) for start in range(0, RESAMPLES, 200)]


@dataclass(frozen=True)
class Interval:
    """A mean with the limits of its 95 % interval; NaN limits from a single value."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def oriented(self, higher_is_better: bool) -> Interval:
        """The same of a difference in scores as a gain: mirrored where lower scores are better."""
        low, high = (self.low, self.high) if higher_is_better else (-self.high, -self.low)
        return Interval(oriented(self.mean, higher_is_better), low, high, self.count)


def t_interval(values: Sequence[float]) -> Interval:
    """Student's interval of the mean of independent values; exact where they are Gaussian.

    >>> str(t_interval([0.1, 0.2, 0.3]))
    '0.2000 [-0.0484, 0.4484]'
    """
    from scipy.stats import t

    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return Interval(float(x.mean()) if len(x) else math.nan, math.nan, math.nan, len(x))
    half = float(t.ppf((1 + LEVEL) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    mean = float(x.mean())
    return Interval(mean, mean - half, mean + half, len(x))


def bootstrap_interval(differences: NDArray[np.floating], seed: int = 0) -> Interval:
    """Percentile interval of the grand mean of (seeds, examples) differences, seeds and examples drawn anew
    independently (Owen 2007, the pigeonhole bootstrap): it holds for other seeds and for another test split.

    Args:
        differences: (seeds, examples), for each example the arm's score minus the reference's; (seeds, 1) draws seeds
            alone.
    """
    d = np.asarray(differences, dtype=float)
    seeds, examples = d.shape
    drawn_seeds, drawn_examples = _drawn(seeds, examples, seed)
    means = np.empty(RESAMPLES)
    for block in _BLOCKS:
        of_seeds = (drawn_examples[block] / examples) @ d.T
        means[block] = (of_seeds * drawn_seeds[block]).sum(1) / seeds
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(d.mean()), float(low), float(high), seeds)


@lru_cache(maxsize=2)
def _drawn(seeds: int, examples: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """How often each seed (RESAMPLES, seeds) and each example (RESAMPLES, examples) was drawn, for every arm alike."""
    draw = np.random.default_rng(seed)
    of_seeds, of_examples = np.empty((RESAMPLES, seeds), np.uint8), np.empty((RESAMPLES, examples), np.uint8)
    for block in _BLOCKS:
        of_seeds[block] = draw.multinomial(seeds, np.full(seeds, 1 / seeds), size=200)
        of_examples[block] = draw.multinomial(examples, np.full(examples, 1 / examples), size=200)
    return of_seeds, of_examples


def paired_p(differences: Sequence[float]) -> float:
    """Two-sided p of the paired t test; 1 where all differences are 0, NaN for a single difference."""
    from scipy.stats import ttest_1samp

    x = np.asarray(differences, dtype=float)
    if len(x) < 2:
        return math.nan
    if np.ptp(x) <= 1e-12:  # the statistic is 0/0, or infinite
        return 1.0 if abs(x[0]) <= 1e-12 else 0.0
    return float(ttest_1samp(x, 0.0).pvalue)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p values, corrected for their number (Holm 1979). NaN stays NaN and is not counted."""
    from statsmodels.stats.multitest import multipletests

    known = {name: value for name, value in p.items() if not math.isnan(value)}
    corrected = multipletests(list(known.values()), method="holm")[1] if known else []
    return dict.fromkeys(p, math.nan) | {name: float(v) for name, v in zip(known, corrected, strict=True)}


@dataclass(frozen=True)
class Smallest:
    """The smallest size that is not inferior, and the sizes between which the true one lies.

    Attributes:
        size: None where even the largest is not shown to match.
        low: the smallest size that is not shown to fall short by more than the margin; None where all are.
        high: as `size`; None is "above the largest".
    """

    size: int | None
    low: int | None
    high: int | None

    def __str__(self) -> str:
        if self.low is None:
            return "above the largest tried"
        if self.size is None:
            return f"not found (at least {self.low})"
        return f"{self.size}" + (f" (95 % interval {self.low} to {self.size})" if self.low != self.size else "")


def smallest(intervals: Mapping[int, Interval], margin: float) -> Smallest:
    """The smallest size whose gain over the reference is surely above −margin, tested from the largest down until the
    first that fails, which keeps the error of the whole sequence at that of one test.

    Args:
        intervals: of the paired gain over the reference, by size: the difference in scores, oriented.

    >>> at = {1: Interval(-0.05, -0.06, -0.04, 5), 2: Interval(-0.02, -0.04, 0, 5), 4: Interval(0, -0.01, 0.01, 5)}
    >>> str(smallest(at, 0.02))
    '4 (95 % interval 2 to 4)'
    """
    passed = None
    for size in sorted(intervals, reverse=True):
        if not intervals[size].low > -margin:
            break
        passed = size
    short = [size for size, interval in intervals.items() if interval.high < -margin]
    open_sizes = [size for size in sorted(intervals) if size > max(short, default=-1)]
    return Smallest(passed, open_sizes[0] if open_sizes else None, passed)
