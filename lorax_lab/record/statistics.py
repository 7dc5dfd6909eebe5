"""Intervals and tests on scores that are paired by seed and by test example: means, non-inferiority, the smallest size
that passes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lorax_lab.record.direction import oriented

LEVEL = 0.95
NOTHING = 1e-12
"""What a mean of equal scores may differ from 0 by, in rounding."""
SMALLEST_LOG_P = -600.0
DRAWS = 20_000


@dataclass(frozen=True)
class Interval:
    """A mean with the limits of its 95 % interval; NaN limits from a single value.

    Attributes:
        count: of the seeds, or other values, that it is a mean of.
        examples: how many test examples the interval covers besides; 0 means the seeds alone.
    """

    mean: float
    low: float
    high: float
    count: int
    examples: int = 0

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def oriented(self, higher_is_better: bool) -> "Interval":
        """The same of a difference in scores as a gain: mirrored where lower scores are better."""
        low, high = (self.low, self.high) if higher_is_better else (-self.high, -self.low)
        return Interval(oriented(self.mean, higher_is_better), low, high, self.count, self.examples)

    def mapped(self, rising: Callable[[float], float]) -> "Interval":
        """The same of a rising function of what it is of."""
        return Interval(rising(self.mean), rising(self.low), rising(self.high), self.count, self.examples)


@dataclass(frozen=True)
class Crossed:
    """The mean of differences of which each seed answers each test example, and where its variance comes from.

    Attributes:
        of_seeds: the variance that the seeds make, the residual's part included, MS_seeds / (seeds · examples).
        of_examples: the variance that the choice of the test examples makes besides, (MS_examples − MS_residual) /
            (seeds · examples), at least 0; 0 of one score per seed.
        of_residual: the part of `of_seeds` that a difference has for itself, MS_residual / (seeds · examples).
    """

    mean: float
    seeds: int
    examples: int
    of_seeds: float
    of_examples: float
    of_residual: float

    def half(self, p: float) -> float:
        """Half the width of the interval that misses with probability p: √(t²(seeds − 1) · of_seeds +
        t²(examples − 1) · of_examples), each part with Student's quantile of its own (Howe 1974)."""
        from scipy.stats import t

        parts = [(self.seeds, self.of_seeds), (self.examples, self.of_examples)]
        return math.hypot(*(float(t.isf(p / 2, n - 1)) * math.sqrt(variance) for n, variance in parts if variance > 0))

    def interval(self, of: int = 1) -> Interval:
        """The 95 % interval of the mean; of the best of several, chosen by these very values, wide enough for all of
        them at once (Bonferroni)."""
        covered = self.examples if self.examples > 1 else 0
        half = self.half((1 - LEVEL) / of) if self.seeds > 1 else math.nan
        return Interval(self.mean, self.mean - half, self.mean + half, self.seeds, covered)

    def p(self) -> float:
        """Two-sided p of no difference, by the same interval: of 95 % ends at 0 where p is .05. 1 where all differences
        are 0, NaN for a single seed."""
        from scipy.optimize import brentq

        if self.seeds < 2:
            return math.nan
        if abs(self.mean) <= NOTHING or self.of_seeds + self.of_examples <= NOTHING**2:  # 0/0, or infinite
            return 1.0 if abs(self.mean) <= NOTHING else 0.0
        if self.half(math.exp(SMALLEST_LOG_P)) <= abs(self.mean):
            return math.exp(SMALLEST_LOG_P)
        return math.exp(brentq(lambda log_p: self.half(math.exp(log_p)) - abs(self.mean), SMALLEST_LOG_P, 0.0))


def crossed(differences: NDArray[np.floating]) -> Crossed:
    """Components of (seeds, examples) differences with random effects of seed, of example, and of both together.

    The interval holds for other seeds and for another test split. It is at least as wide as Student's over the seeds'
    means, which knows nothing of other test examples and is too narrow as soon as some of them suit one side
    (`tests/nightly/test_coverage_of_intervals.py`). Satterthwaite's degrees of freedom make it a little too narrow
    where both parts are of one size, and the bootstrap over both is too narrow where the seeds decide (`LOG.md`,
    2026-11-26).

    Args:
        differences: for each example the arm's score minus the reference's; (seeds, 1), one score per seed, gives
            Student's interval over the seeds.

    >>> str(crossed(np.array([[0.1, 0.3], [0.2, 0.4], [0.3, 0.5]])).interval())
    '0.3000 [-0.9947, 1.5947]'
    """
    d = np.asarray(differences, dtype=float)
    (seeds, examples), mean = d.shape, float(d.mean()) if len(d) else math.nan
    if seeds < 2:
        return Crossed(mean, seeds, examples, math.nan, math.nan, math.nan)
    by_seed = d.mean(1)
    of_seeds = float(by_seed.var(ddof=1)) / seeds
    if examples < 2:
        return Crossed(mean, seeds, examples, of_seeds, 0.0, 0.0)
    by_example = d.mean(0)
    left = d - by_seed[:, None] - by_example[None] + mean
    residual = float((left**2).sum()) / ((seeds - 1) * (examples - 1) * seeds * examples)
    of_examples = max(float(by_example.var(ddof=1)) / examples - residual, 0.0)
    return Crossed(mean, seeds, examples, of_seeds, of_examples, residual)


def t_interval(values: Sequence[float]) -> Interval:
    """Student's interval of the mean of independent values, such as the seeds'; exact where they are Gaussian.

    >>> str(t_interval([0.1, 0.2, 0.3]))
    '0.2000 [-0.0484, 0.4484]'
    """
    return crossed(np.asarray(values)[:, None]).interval()


def power(gain: Crossed, margin: float, truth: float) -> float:
    """The chance that a study with these components of variance finds the gain surely above −margin, by the same
    interval, where the true gain is `truth`. Simulated, with the same draws each time; NaN for a single seed."""
    from scipy.stats import t

    if gain.seeds < 2:
        return math.nan
    draw, seeds, examples = np.random.default_rng(0), gain.seeds, gain.examples
    of_seeds = max(gain.of_seeds, gain.of_residual)  # smaller by chance alone
    mean = truth + math.sqrt(of_seeds + gain.of_examples) * draw.standard_normal(DRAWS)
    square = float(t.isf((1 - LEVEL) / 2, seeds - 1)) ** 2 * of_seeds * _share(draw, seeds - 1)
    if examples > 1:
        residual = gain.of_residual * _share(draw, (seeds - 1) * (examples - 1))
        parts = (gain.of_examples + gain.of_residual) * _share(draw, examples - 1) - residual
        square += float(t.isf((1 - LEVEL) / 2, examples - 1)) ** 2 * np.maximum(parts, 0)
    return float((mean - np.sqrt(square) > -margin).mean())


def _share(draw: np.random.Generator, freedom: int) -> NDArray[np.floating]:
    """Estimated variances as shares of the true one."""
    return draw.chisquare(freedom, DRAWS) / freedom


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p values, corrected for their number (Holm 1979). NaN stays NaN and is not counted.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03, "none": math.nan})
    {'a': 0.03, 'b': 0.06, 'c': 0.06, 'none': nan}
    """
    ordered = sorted((value, name) for name, value in p.items() if not math.isnan(value))
    corrected, highest = dict.fromkeys(p, math.nan), 0.0
    for place, (value, name) in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - place) * value))
        corrected[name] = highest
    return corrected


@dataclass(frozen=True)
class Smallest:
    """The smallest size that is not inferior, and the sizes between which the true one lies.

    Attributes:
        size: None where even the largest is not shown to match.
        low: the smallest size, tried or not, that is above every size shown to fall short by more than the margin; the
            smallest tried where none is; None where the largest tried is.
        high: as `size`; None is "above the largest".
        tried: the largest size; None where there is none.
    """

    size: int | None
    low: int | None
    high: int | None
    tried: int | None = field(default=None, compare=False)

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
    >>> str(smallest({size: gain for size, gain in at.items() if size != 2}, 0.02))
    '4 (95 % interval 2 to 4)'
    """
    passed = None
    for size in sorted(intervals, reverse=True):
        if not intervals[size].low > -margin:
            break
        passed = size
    short = max((size for size, interval in intervals.items() if interval.high < -margin), default=None)
    tried = max(intervals, default=None)
    low = min(intervals, default=None) if short is None else short + 1
    return Smallest(passed, None if short == tried else low, passed, tried)
