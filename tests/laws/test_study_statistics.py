"""Intervals, non-inferiority and the pipeline itself, tried on comparisons whose truth is known."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import t
from synthetic import MODULES, PROTOCOL, changed, directed, of_one_seed, renewed, study, with_head, with_losses

from analysis.study import comparison, update
from analysis.study.verdict import NOT_SUPPORTED, SUPPORTED, UNDECIDED, low_rank, of_tasks, rule, rulings
from lorax_lab.record import statistics
from lorax_lab.record.statistics import Crossed, Interval, Smallest, crossed, smallest, t_interval
from lorax_lab.study.protocol import Cell

TASK = "reviews"


def test_the_t_interval_is_the_textbooks() -> None:
    found = t_interval([2.0, 4.0, 6.0, 8.0])  # sd 2.582, t 3.182
    assert (found.mean, found.count) == (5.0, 4)
    assert found.high - found.mean == pytest.approx(3.18245 * 2.581989 / 2, rel=1e-5)
    assert math.isnan(t_interval([1.0]).low)
    assert str(t_interval([])) == "nan [nan, nan]"
    assert t_interval([]).count == 0


@pytest.mark.parametrize(("higher", "mirrored"), [(True, (2.0, 1.0, 4.0)), (False, (-2.0, -4.0, -1.0))])
def test_a_gain_is_a_difference_or_its_mirror(higher: bool, mirrored: tuple[float, ...]) -> None:
    assert Interval(2.0, 1.0, 4.0, 5, 9).oriented(higher) == Interval(*mirrored, 5, 9)


def test_an_interval_of_logarithms_is_mapped_back_end_by_end() -> None:
    assert Interval(2.0, 1.0, 4.0, 5, 9).mapped(math.exp2) == Interval(4.0, 2.0, 16.0, 5, 9)


def test_holms_p_is_at_most_one() -> None:
    assert statistics.holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


def at(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 5)


@pytest.mark.parametrize(
    ("found", "size", "low"),
    [
        ({}, None, None),
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
    assert answer.tried == max(found, default=None)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Smallest(None, None, None), "above the largest tried"), (Smallest(None, 3, None), "not found (at least 3)"),
        (Smallest(4, 4, 4), "4"), (Smallest(4, 2, 4), "4 (95 % interval 2 to 4)"),
    ],
)  # fmt: skip
def test_the_smallest_size_in_words(answer: Smallest, says: str) -> None:
    assert str(answer) == says


def test_scores_are_paired_by_seed(higher: bool) -> None:
    def shifted(cell: Cell) -> float:
        worse = 0.01 * abs(PROTOCOL.step(cell.arm, cell.rate) - 1)
        return 0.7 + 0.03 * (cell.seed % 5) + 0.01 * (cell.arm == "LoRA r=8") - worse

    records = directed(study(shifted), higher)
    row = comparison.table(records, TASK).set_index("arm").loc["LoRA r=8"]
    assert row["difference_high"] - row["difference_low"] < 1e-9  # the seeds' own scatter is gone
    assert row["difference"] == pytest.approx(0.01 if higher else -0.01)
    assert comparison.gains(records, TASK)["LoRA r=8"].mean == pytest.approx(0.01)
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
        ([Smallest(24, 2, 24)], SUPPORTED),
        ([Smallest(32, 24, 32)], UNDECIDED),
        ([Smallest(None, None, None, 23)], UNDECIDED),
        ([Smallest(None, None, None, 24)], NOT_SUPPORTED),
    ],
)
def test_the_rule_of_the_verdict_at_a_low_rank_of_24(evidence: list[Smallest], ruling: str) -> None:
    assert rule(evidence, 24) == ruling
    assert rule(evidence, 24, solved=True) == UNDECIDED


def test_where_no_size_was_tried_nothing_is_decided() -> None:
    assert rule([smallest({}, 0.02)], 1) == UNDECIDED


def test_each_task_and_type_of_matrix_has_its_own_ruling(higher: bool) -> None:
    """Cuts of all matrices keep the score from k = 4 on, of one type from k = 2 on; those were scored on validation."""

    def both(line: dict[str, Any]) -> dict[str, Any]:
        made = renewed(line)
        types = [row for row in line.get("functional", []) if row[2]]
        return made | ({"functional": made["functional"] + types} if types else {})

    records = directed(changed(study(tasks=("reviews", "scores")), both), higher)
    for task, own in (("reviews", rulings(records)[:4]), ("scores", rulings(records)[4:])):
        assert [(ruling.task, ruling.module) for ruling in own] == [(task, name) for name in (update.ALL, *MODULES)]
        assert [ruling.k_star.size for ruling in own] == [4, 2, 2, 2]
        assert [ruling.on_test for ruling in own] == [higher, False, False, False]
        assert {ruling.verdict for ruling in own[1:]} == {SUPPORTED}
        assert own[0].r_star == comparison.enough(records, task) == Smallest(8, 2, 8)
        assert own[0].verdict == UNDECIDED  # a rank of 8 is above 4
        assert [ruling.r_star for ruling in own[1:]] == [None] * 3
    assert of_tasks(records) == [rulings(records)[0], rulings(records)[4]]


def test_a_task_that_the_head_alone_may_solve_is_undecided_for_every_type(higher: bool) -> None:
    assert {ruling.verdict for ruling in rulings(directed(with_head(0.79), higher))} == {UNDECIDED}
    assert {ruling.verdict for ruling in rulings(directed(with_head(0.7), higher))} == {SUPPORTED}


@pytest.mark.parametrize(("worse", "by_loss"), [(0.05, Smallest(None, None, None)), (-0.05, Smallest(1, 1, 1))])
def test_a_lower_loss_is_a_gain_whichever_scores_are_better(worse: float, by_loss: Smallest, higher: bool) -> None:
    records = directed(study(), higher)
    assert of_tasks(with_losses(records, worse, 0.02))[0].by_loss == by_loss
    gains = comparison.gains(with_losses(records, worse, 0.02), TASK, by_loss=True)
    assert {arm: gain.mean for arm, gain in gains.items()} == pytest.approx(dict.fromkeys(gains, -worse), abs=1e-3)


def test_low_is_a_sixteenth_of_the_smallest_side_of_all_matrices() -> None:
    def oblong(line: dict[str, Any]) -> dict[str, Any]:
        shapes = [(48, 512), (512, 80)] * 3
        rows = zip(line.get("matrices", {}).items(), shapes, strict=False)
        return line | {"matrices": {name: row | {"shape": list(shape)} for (name, row), shape in rows}}

    assert low_rank(of_one_seed(changed(study(), oblong)), TASK) == 3


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


def test_the_components_of_variance_are_the_formulas() -> None:
    assert vars(crossed(np.array([[0.0, 1, 0], [1, 1, 0]]))) == pytest.approx(
        {"mean": 1 / 2, "seeds": 2, "examples": 3, "of_seeds": 1 / 36, "of_examples": 1 / 18, "of_residual": 1 / 36}
    )
    alone = crossed(np.array([[1, 0], [0, 1]]))
    assert vars(alone) == {
        "mean": 0.5, "seeds": 2, "examples": 2, "of_seeds": 0.0, "of_examples": 0.0, "of_residual": 0.25
    }  # fmt: skip
    assert alone.interval().examples == 2
    scores = crossed(np.array([[1.0], [3.0]]))
    assert vars(scores) == {
        "mean": 2.0, "seeds": 2, "examples": 1, "of_seeds": 1.0, "of_examples": 0.0, "of_residual": 0.0
    }  # fmt: skip
    single = crossed(np.array([[1.0, 3.0]]))
    assert (single.mean, single.seeds, single.examples) == (2.0, 1, 2)
    assert np.isnan([single.of_seeds, single.of_examples, single.of_residual]).all()
    halves = np.random.default_rng(0).normal(0, 1, (3, 50)).astype(np.float16)
    assert crossed(halves) == crossed(halves.astype(float))


def test_an_interval_of_the_best_of_several_holds_for_all_of_them() -> None:
    gain = Crossed(0.5, 3, 4, 0.04, 0.01, 0.0)
    half = math.hypot(t.isf(0.05 / 2 / 5, 2) * 0.2, t.isf(0.05 / 2 / 5, 3) * 0.1)
    of_five = gain.interval(of=5)
    assert (of_five.low, of_five.high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))


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
    assert Crossed(statistics.NOTHING, 3, 1, 1.0, 0.0, 0.0).p() == 1.0
    for of_seeds in (statistics.NOTHING**2, statistics.NOTHING**2.5):
        assert Crossed(0.1, 3, 1, of_seeds, 0.0, 0.0).p() == 0.0
    assert Crossed(0.1, 3, 1, 2 * statistics.NOTHING**2, 0.0, 0.0).p() > 0.0
    assert Crossed(1e-6, 3, 1, statistics.NOTHING, 0.0, 0.0).p() == pytest.approx(2 * t.sf(1.0, 2))
    assert Crossed(0.1, 3, 9, 0.0, 0.01, 0.0).p() == pytest.approx(2 * t.sf(1.0, 8))
    assert Crossed(0.1, 1000, 1, 1e-10, 0.0, 0.0).p() == math.exp(-600)


@pytest.mark.parametrize(("seeds", "examples"), [(2, 1), (5, 2), (3, 40)])
@pytest.mark.parametrize("of_residual", [1e-5, 4e-4])
def test_power_is_how_often_the_interval_lies_above_the_margin(seeds: int, examples: int, of_residual: float) -> None:
    """The draws: means, then the estimates of the variance by seeds, of the residual, and by examples."""
    gain = Crossed(0.0, seeds, examples, 1e-4, 2e-4, of_residual)
    draw, of_seeds = np.random.default_rng(0), max(1e-4, of_residual)
    means = -0.005 + (of_seeds + 2e-4) ** 0.5 * draw.standard_normal(statistics.DRAWS)
    squares = of_seeds * draw.chisquare(seeds - 1, statistics.DRAWS) / (seeds - 1) * t.ppf(0.975, seeds - 1) ** 2
    if examples > 1:
        freedom = (seeds - 1) * (examples - 1)
        left = of_residual * draw.chisquare(freedom, statistics.DRAWS) / freedom
        by_example = (2e-4 + of_residual) * draw.chisquare(examples - 1, statistics.DRAWS) / (examples - 1)
        squares += (by_example - left).clip(0) * t.ppf(0.975, examples - 1) ** 2
    expected = ((means - squares**0.5) > -0.05).mean()
    assert 0.001 < expected < 0.999
    assert statistics.power(gain, 0.05, -0.005) == pytest.approx(expected, abs=1.5 / statistics.DRAWS)


def test_power_knows_its_ends() -> None:
    sure = crossed(np.full((5, 100), 0.1))
    assert (statistics.power(sure, MARGIN, 0.0), statistics.power(sure, MARGIN, -2 * MARGIN)) == (1.0, 0.0)
    scores = crossed(np.random.default_rng(3).normal(0, 0.01, (5, 1)))
    assert statistics.power(scores, MARGIN, -MARGIN) == pytest.approx(0.025, abs=0.005)
    assert math.isnan(statistics.power(crossed(np.zeros((1, 100))), MARGIN, 0.0))


def test_spikes_are_counted_only_above_a_bulk_of_iid_noise() -> None:
    row = {"shape": [64, 64], "noise_std": 1.0, "bulk_misfit": 0.03, "spikes": 4.0}
    assert update._mean({"m": row}, ["m"], "spikes") == 4
    assert math.isnan(update._mean({"m": row | {"bulk_misfit": 0.2}}, ["m"], "spikes"))
    assert math.isnan(update._mean({"m": row | {"bulk_misfit": None}}, ["m"], "bulk_misfit"))
