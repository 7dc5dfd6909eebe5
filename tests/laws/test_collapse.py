"""Runs that end worse than they began, or no better than one answer for every input: flagged everywhere, never lost."""

from typing import Any

import numpy as np
import pytest
from conftest import ran
from here import store_of

from lorax_lab.record.record import scan
from lorax_lab.tasks import KINDS
from lorax_lab.tasks.collapse import best_constant, risen, signs
from lorax_lab.tasks.kind import Metric

LABELS: dict[str, np.ndarray] = {
    "classes": np.array([0, 1, 1, 1, 0, 1]), "numbers": np.array([0.5, -1.0, 2.0, 0.0, 1.0, 3.0]),
    "texts": np.array(["yes", "no", "yes", "yes ", "no", "maybe"]),
}  # fmt: skip


class Scored:
    """A split of a kind, and nothing more of a task than a score needs."""

    def __init__(self, kind: str, metric: str) -> None:
        self.task, self.kind, self.config = self, KINDS[kind], KINDS[kind].config
        self.metric, self.classes = metric, ("no", "yes") if self.config.labels == "classes" else ()
        self.labels = LABELS[self.config.labels]
        self.higher_is_better = self.kind.metrics[metric].higher_is_better


EVERY = [(kind, metric) for kind in KINDS for metric in KINDS[kind].metrics]
STILL = [0.7] * 3


@pytest.mark.parametrize(("kind", "metric"), EVERY)
def test_a_right_model_is_never_flagged_and_a_constant_or_worse_one_is(kind: str, metric: str) -> None:
    split: Any = Scored(kind, metric)
    of: Metric = split.kind.metrics[metric]
    constant = best_constant(split, split.labels)
    best = float(of.higher_is_better)
    assert not signs(split, "test", STILL, best, {})
    if constant is None:
        assert metric == "nats"
    else:
        assert signs(split, "test", STILL, constant, {})
        step = 1e-6 * (1 if of.higher_is_better else -1)
        assert not signs(split, "test", STILL, constant + step, {})
    between = 0.5 * (best + (constant if constant is not None else 2.0))
    worse = between - 0.01 * (1 if of.higher_is_better else -1)
    before = {f"untrained/{metric}": between}
    assert not signs(split, "test", STILL, between, before)
    assert "before training" in signs(split, "test", STILL, worse, before)[0]


def test_the_score_of_one_answer_is_worked_out_by_hand() -> None:
    expected = {
        ("classification", "accuracy"): 4 / 6,
        ("classification", "f1"): 2 * 4 / (2 * 4 + 2),
        ("classification", "matthews"): 0.0,
        ("regression", "pearson"): 0.0,
        ("language_modeling", "exact_match"): 3 / 6,
        ("speech_recognition", "word_error_rate"): 1.0,
    }
    for (kind, metric), score in expected.items():
        split: Any = Scored(kind, metric)
        assert best_constant(split, split.labels) == pytest.approx(score)


def test_a_loss_that_learns_nothing_is_rarely_taken_for_one_that_rose() -> None:
    draw = np.random.default_rng(0)
    losses = 0.69 * np.exp(0.1 * draw.standard_normal((2000, 94)))
    assert sum(risen(row.tolist()) is not None for row in losses) <= 8  # 2 are expected
    assert sum(risen((row * np.linspace(1, 5, 94)).tolist()) is not None for row in losses[:200]) == 200
    assert not any(risen((row * np.linspace(1, 0.3, 94)).tolist()) for row in losses[:200])


def test_a_run_at_a_rate_of_ten_is_flagged(small_run: list[str]) -> None:
    shown = ran(*small_run, "measure=trial", "train.learning_rate=10", "method=full", "train.max_steps=4")
    assert "collapsed" in shown
    (record,) = scan(store_of(small_run))[0].values()
    assert any("validation accuracy" in reason for reason in record.completed.collapsed)
