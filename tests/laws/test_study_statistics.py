"""Intervals, non-inferiority and the pipeline itself, tried on comparisons whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t
from synthetic import PROTOCOL, study

from analysis.study import comparison, update
from analysis.study.statistics import Interval, Smallest, crossed, holm, power, smallest, t_interval
from analysis.study.verdict import NOT_SUPPORTED, SUPPORTED, UNDECIDED, rule
from lorax_lab.study.protocol import Cell


def test_the_t_interval_is_the_textbooks() -> None:
    found = t_interval([2.0, 4.0, 6.0, 8.0])  # sd 2.582, t 3.182
    assert (found.mean, found.count) == (5.0, 4)
    assert found.high - found.mean == pytest.approx(3.18245 * 2.581989 / 2, rel=1e-5)
    assert math.isnan(t_interval([1.0]).low)


def test_holm_is_the_papers() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    kept = holm({"a": 0.01, "b": math.nan})
    assert kept["a"] == pytest.approx(0.01)
    assert math.isnan(kept["b"])


def at(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 5)


@pytest.mark.parametrize(
    ("found", "size", "low"),
    [
        ({1: at(-0.01, 0.01), 2: at(-0.01, 0.01), 4: at(-0.01, 0.01)}, 1, 1),
        ({1: at(-0.08, -0.06), 2: at(-0.03, 0.01), 4: at(-0.01, 0.01)}, 4, 2),
        ({1: at(-0.01, 0.01), 2: at(-0.03, 0.01), 4: at(-0.01, 0.01)}, 4, 1),  # the chain ends at its first failure
        ({1: at(-0.08, -0.06), 2: at(-0.08, -0.06), 4: at(-0.03, 0.01)}, None, 3),
        ({1: at(-0.08, -0.06), 2: at(-0.08, -0.06)}, None, None),
        ({1: at(-0.08, -0.02), 2: at(-0.02, 0.0)}, None, 1),  # a limit on the margin passes neither test
        ({1: at(math.nan, math.nan)}, None, 1),
    ],
)
def test_the_smallest_size_and_what_it_lies_between(
    found: dict[int, Interval], size: int | None, low: int | None
) -> None:
    answer = smallest(found, 0.02)
    assert (answer.size, answer.low, answer.high) == (size, low, size)


def test_scores_are_paired_by_seed() -> None:
    def shifted(cell: Cell) -> float:
        return (
            0.7
            + 0.03 * (cell.seed % 5)
            + 0.01 * (cell.arm == "LoRA r=8")
            - 0.01 * abs(PROTOCOL.step(cell.arm, cell.rate) - 1)
        )

    row = comparison.table(study(shifted), "reviews").set_index("arm").loc["LoRA r=8"]
    assert row["difference_high"] - row["difference_low"] < 1e-9  # the seeds' own scatter is gone
    assert row["difference"] == pytest.approx(0.01)
    assert row["test_high"] - row["test_low"] > 0.05


@pytest.mark.parametrize(
    ("evidence", "ruling"),
    [
        ([Smallest(4, 2, 4), Smallest(8, 1, 8)], SUPPORTED),
        ([Smallest(4, 2, 4), Smallest(32, 1, 32)], UNDECIDED),
        ([Smallest(4, 2, 4), Smallest(None, 1, None)], UNDECIDED),
        ([Smallest(4, 2, 4), Smallest(32, 32, 32)], NOT_SUPPORTED),
        ([Smallest(4, 2, 4), Smallest(64, 17, 64)], UNDECIDED),  # 24 itself was not tried
        ([Smallest(4, 2, 4), Smallest(None, None, None, 64)], NOT_SUPPORTED),
        ([Smallest(4, 2, 4), Smallest(None, None, None, 8)], UNDECIDED),
        ([Smallest(0, 0, 0), Smallest(1, 1, 1)], UNDECIDED),
        ([Smallest(0, 0, 0), Smallest(None, None, None, 64)], NOT_SUPPORTED),
        ([Smallest(1, 0, 1)], UNDECIDED),
    ],
)
def test_the_rule_of_the_verdict_at_a_low_rank_of_24(evidence: list[Smallest], ruling: str) -> None:
    assert rule(evidence, 24) == ruling


def test_a_rank_below_the_line_is_seldom_called_high_whatever_was_tried() -> None:
    """A true k* of 20, and a line of 24 that no cut stands at: 16 falls short surely, and that tells nothing of 24."""
    draw, sizes = np.random.default_rng(0), (0, 1, 2, 4, 8, 16, 32, 64, 384)
    loss = {k: 0.02 * (20 / max(k, 1)) ** 2 if k < 384 else 0.0 for k in sizes}
    called, short = 0, 0
    for _ in range(400):
        seeds = {k: -loss[k] + draw.normal(0, 0.004, 5) * (k < 384) for k in sizes}
        found = smallest({k: t_interval(own.tolist()) for k, own in seeds.items()}, 0.02)
        called += rule([found], 24) == NOT_SUPPORTED
        short += found.low == 17
    assert short > 200
    assert called <= 0.025 * 400


# ---- the interval over seeds and test examples; how often it covers: tests/nightly/test_coverage_of_intervals.py

MARGIN = 0.02


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


def test_power_knows_its_ends() -> None:
    sure = crossed(np.full((5, 100), 0.1))
    assert (power(sure, MARGIN, 0.0), power(sure, MARGIN, -2 * MARGIN)) == (1.0, 0.0)
    scores = crossed(np.random.default_rng(3).normal(0, 0.01, (5, 1)))
    assert power(scores, MARGIN, -MARGIN) == pytest.approx(0.025, abs=0.005)
    assert math.isnan(power(crossed(np.zeros((1, 100))), MARGIN, 0.0))


def test_spikes_are_counted_only_above_a_bulk_of_iid_noise() -> None:
    row = {"shape": [64, 64], "noise_std": 1.0, "bulk_misfit": 0.03, "spikes": 4.0}
    assert update._mean({"m": row}, ["m"], "spikes") == 4
    assert update._mean({"m": row | {"bulk_misfit": 0.2}}, ["m"], "spikes") != 4
    assert update._mean({"m": row | {"bulk_misfit": None}}, ["m"], "bulk_misfit") != 0
