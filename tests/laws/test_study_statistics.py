"""Intervals, non-inferiority and the pipeline itself, tried on comparisons whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from synthetic import PROTOCOL, study

from analysis.study import comparison
from analysis.study.statistics import Interval, Smallest, holm, smallest, t_interval
from analysis.study.verdict import NOT_SUPPORTED, SUPPORTED, UNDECIDED, rule
from lorax_lab.study.protocol import Arm, Cell

SAME = replace(
    PROTOCOL,
    arms=(Arm("full", ("method=full",), 1e-4), Arm("LoRA r=8", ("method=lora", "rank=8"), 1e-3)),
    rates=4,
    extensions=0,
)
COMPARISONS = 1000
NOISE = 0.01


def test_the_t_interval_is_the_textbooks() -> None:
    found = t_interval([2.0, 4.0, 6.0, 8.0])  # sd 2.582, t 3.182
    assert (found.mean, found.count) == (5.0, 4)
    assert found.high - found.mean == pytest.approx(3.18245 * 2.581989 / 2, rel=1e-5)
    assert math.isnan(t_interval([1.0]).low)


def test_the_intervals_cover_as_often_as_they_say() -> None:
    draw = np.random.default_rng(0)
    samples = draw.normal(0.3, 1, (2000, 5))
    covered = np.mean([(i := t_interval(s.tolist())).low < 0.3 < i.high for s in samples])
    assert 0.935 < covered < 0.965


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
