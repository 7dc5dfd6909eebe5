"""The interval of a difference over seeds and test examples: its formula, its limits, its p.

tests/nightly/test_coverage_of_intervals.py simulates how often it covers the truth.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from analysis.study.statistics import Interval, crossed, power, t_interval

MARGIN = 0.02


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Seeds and examples that both scatter, 300 times; the rates of eight cases are in docs/studies.md."""
    draw, misses = np.random.default_rng(0), 0
    for _ in range(300):
        d = draw.normal(0, 0.02, (5, 1)) + draw.normal(0, 0.4, (1, 300)) + draw.normal(0, 0.3, (5, 300))
        interval = crossed(d).interval()
        misses += not interval.low <= 0 <= interval.high
        assert (crossed(d).p() < 0.05) == (not interval.low <= 0 <= interval.high)
    assert 3 < misses < 27


def test_the_interval_is_the_formulas() -> None:
    d = np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    by_seed, by_example = d.mean(1), d.mean(0)
    residual = ((d - by_seed[:, None] - by_example + d.mean()) ** 2).sum() / 2 / 6
    of_examples = by_example.var(ddof=1) / 3 - residual
    of_seeds = by_seed.var(ddof=1) / 2
    half = math.sqrt(t.ppf(0.975, 1) ** 2 * of_seeds + t.ppf(0.975, 2) ** 2 * of_examples)
    interval = crossed(d).interval()
    assert (interval.mean, interval.count, interval.examples) == (pytest.approx(0.5), 2, 3)
    assert interval.high - interval.mean == pytest.approx(half)
    assert interval.mean - interval.low == pytest.approx(half)


def test_it_is_students_where_the_examples_do_not_differ_and_never_narrower() -> None:
    draw = np.random.default_rng(1)
    of_seeds = np.repeat(draw.normal(0, 0.02, (5, 1)), 400, axis=1)
    alone = t_interval(of_seeds[:, 0].tolist())
    assert crossed(of_seeds).interval().high == pytest.approx(alone.high)
    scores = crossed(of_seeds[:, :1]).interval()
    assert (scores.low, scores.high, scores.examples) == (alone.low, alone.high, 0)
    both = of_seeds + draw.normal(0, 0.5, (1, 400))
    wide, narrow = crossed(both).interval(), t_interval(both.mean(1).tolist())
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    examples_alone = crossed(np.repeat(draw.normal(0, 0.5, (1, 400)), 5, axis=0)).interval()
    assert examples_alone.high - examples_alone.low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.1)


def test_p_and_interval_agree_at_the_level() -> None:
    study = crossed(np.random.default_rng(2).normal(0.1, 1, (5, 200)))
    edge = study.interval().mean - study.interval().low
    moved = crossed(np.random.default_rng(2).normal(0.1, 1, (5, 200)) - study.mean + edge)
    assert moved.interval().low == pytest.approx(0, abs=1e-12)
    assert moved.p() == pytest.approx(0.05)
    assert study.p() == pytest.approx(crossed(-np.random.default_rng(2).normal(0.1, 1, (5, 200))).p())


def test_differences_that_do_not_scatter_have_a_p_too() -> None:
    assert crossed(np.zeros((3, 1))).p() == 1.0
    assert crossed(np.full((3, 4), 0.1)).p() == 0.0
    assert math.isnan(crossed(np.full((1, 4), 0.1)).p())
    assert math.isnan(crossed(np.full((1, 4), 0.1)).interval().low)
    assert crossed(np.array([[1.0], [1.0 + 1e-11], [1.0]])).p() < 1e-10
    assert crossed(np.array([[0.1], [0.11]])).p() == pytest.approx(2 / math.pi * math.atan(0.005 / 0.105))


def test_a_mirrored_interval_covers_as_many_examples() -> None:
    assert Interval(0.1, 0.0, 0.3, 5, 200).oriented(False) == Interval(-0.1, -0.3, 0.0, 5, 200)


def test_power_knows_its_ends() -> None:
    sure = crossed(np.full((5, 100), 0.1))
    assert (power(sure, MARGIN, 0.0), power(sure, MARGIN, -2 * MARGIN)) == (1.0, 0.0)
    scores = crossed(np.random.default_rng(3).normal(0, 0.01, (5, 1)))
    assert power(scores, MARGIN, -MARGIN) == pytest.approx(0.025, abs=0.005)
    assert math.isnan(power(crossed(np.zeros((1, 100))), MARGIN, 0.0))
