"""The interval of a difference covers seeds and test examples: simulated studies whose true difference is known.

In each, two arms of known accuracy answer the same test examples with the same seeds. What decides an answer has parts
of its own for the example, for the example and the arm, for the seed and the arm, and for the single answer.
"""

import csv
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from lorax_lab.record.statistics import crossed, t_interval

MARGIN = 0.02
DIFFICULTY = 2.0
"""How much examples differ in what both arms find hard; the single answer's part is 1."""
NONE, WEAK, STRONG = 0.0, 0.5, 1.5
"""How much examples differ in which arm they suit. The rank study's components of variance are those of `WEAK` and of a
quiet seed."""
QUIET, LOUD = 0.02, 0.1
"""How much seeds differ."""
CASES = [
    (5, 500, NONE, LOUD), (5, 500, WEAK, QUIET), (5, 500, WEAK, LOUD), (5, 500, STRONG, QUIET), (5, 1500, WEAK, QUIET),
    (8, 500, WEAK, QUIET), (8, 500, STRONG, LOUD), (8, 1000, NONE, QUIET),
]  # fmt: skip


def answers(
    draw: np.random.Generator, accuracy: float, hard: np.ndarray, seeds: int, suits: float, seed: float
) -> np.ndarray:
    """(studies, seeds, examples) of right answers of one arm, whose accuracy over all seeds and examples is exact."""
    studies, _, examples = hard.shape
    scale = math.sqrt(1 + DIFFICULTY**2 + suits**2 + seed**2)
    own = hard + suits * draw.standard_normal((studies, 1, examples), np.float32)
    own = own + seed * draw.standard_normal((studies, seeds, 1), np.float32)
    return np.asarray(own + draw.standard_normal((studies, seeds, examples), np.float32) > -norm.ppf(accuracy) * scale)


def found(
    seeds: int, examples: int, suits: float, seed: float, difference: float, count: int = 1000
) -> list[np.ndarray]:
    """The differences (seeds, examples) of the studies."""
    draw, studies = np.random.default_rng(5), []
    for _ in range(count // 100):
        hard = DIFFICULTY * draw.standard_normal((100, 1, examples), np.float32)
        arm, reference = (answers(draw, a, hard, seeds, suits, seed) for a in (0.85 + difference, 0.85))
        studies += list(arm.astype(float) - reference)
    return studies


def limits(count: int, level: float = 0.99) -> tuple[float, float]:
    """The interval of a rate of 1,000 studies."""
    interval = binomtest(count, 1000).proportion_ci(level)
    return float(interval.low), float(interval.high)


@cache
def false_matches(seeds: int, examples: int, suits: float, seed: float) -> tuple[int, int]:
    """Of 1,000 studies whose arm loses the whole margin, how many pass: by the pages' interval, and by Student's."""
    studies = found(seeds, examples, suits, seed, -MARGIN)
    over_seeds = sum(t_interval(d.mean(1).tolist()).low > -MARGIN for d in studies)
    return sum(crossed(d).interval().low > -MARGIN for d in studies), over_seeds


@cache
def false_winners(seeds: int, examples: int, suits: float, seed: float) -> int:
    """Of 1,000 studies of two arms that are alike, in how many one is found better."""
    intervals = [crossed(d).interval() for d in found(seeds, examples, suits, seed, 0.0)]
    return sum(not interval.low <= 0 <= interval.high for interval in intervals)


@pytest.mark.parametrize(("seeds", "examples", "suits", "seed"), CASES)
def test_a_lost_margin_passes_and_arms_that_are_alike_win_as_rarely_as_the_level_says(
    seeds: int, examples: int, suits: float, seed: float
) -> None:
    passed, over_seeds = false_matches(seeds, examples, suits, seed)
    assert limits(passed)[0] <= 0.025
    if suits:  # Student's interval over the seeds is what must not come back
        assert limits(over_seeds)[0] > 0.025 or seed == LOUD
        assert over_seeds > passed
    low, high = limits(false_winners(seeds, examples, suits, seed))
    assert low <= 0.05
    assert high > 0.01  # no interval that is wide for nothing


def test_the_published_table_has_these_rates() -> None:
    def rate(count: int) -> str:
        low, high = limits(count, 0.95)
        return f"{count / 1000:.3f} [{low:.3f}, {high:.3f}]"

    with (Path(__file__).parents[2] / "docs" / "coverage.csv").open(encoding="utf-8") as file:
        published = list(csv.reader(file))[1:]
    suit = {NONE: "not at all", WEAK: "somewhat", STRONG: "strongly"}
    simulated = []
    for seeds, examples, suits, seed in CASES:
        case = (seeds, examples, suits, seed)
        rates = map(rate, (*false_matches(*case), false_winners(*case)))
        simulated.append([str(seeds), str(examples), suit[suits], "much" if seed == LOUD else "little", *rates])
    assert simulated == published
