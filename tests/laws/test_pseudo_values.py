"""What each test example adds to a score that is no share of right answers, from the metric to the verdict."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import CUT_RANKS, EXAMPLES, PROTOCOL, changed, line, present, study
from torch.nn.functional import cross_entropy

from analysis.study import comparison, update
from lorax_lab.study.answers import (
    CORRECT,
    CUT_ANSWERS,
    CUT_PSEUDO_VALUES,
    LOSSES,
    PSEUDO_VALUES,
    answers_of,
    by_example,
    cuts_by_example,
)
from lorax_lab.study.protocol import Cell
from lorax_lab.tasks import KINDS
from lorax_lab.tasks.kind import Metric

TASK = "reviews"
COUNT = EXAMPLES["test"]
KNOWN = [(kind, name, of) for kind in KINDS for name, of in KINDS[kind].metrics.items() if of.pseudo_values]
"""The metrics that have pseudo-values."""


def outputs_of(kind: str, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    if kind == "regression":
        labels = draw.standard_normal(count)
        return (0.5 * labels + draw.standard_normal(count))[:, None].astype("f4"), labels
    if kind.endswith("classification"):
        labels = draw.integers(0, 3, count)
        return (draw.standard_normal((count, 3)) + np.eye(3)[labels]).astype("f4"), labels
    tokens = draw.integers(1, 9, count)
    columns = [draw.exponential(2.0, count) * tokens, tokens, draw.random(count) < 0.3]
    return np.stack(columns, 1).astype("f4"), np.full(count, "a")


@pytest.mark.parametrize(("kind", "name", "metric"), KNOWN, ids=lambda value: str(value)[:20])
def test_they_are_the_jackknife_s_and_their_standard_error_is_that_of_the_score(
    kind: str, name: str, metric: Metric
) -> None:
    """n θ − (n − 1) θ without the example, to 1/n; the error over 600 samples of 200 examples."""
    outputs, labels = outputs_of(kind, 400)
    values, score = metric.pseudo_values(outputs, labels), metric.score(outputs, labels)
    assert values.mean() == pytest.approx(score, abs=1e-9)
    left_out = [metric.score(np.delete(outputs, i, 0), np.delete(labels, i)) for i in range(400)]
    jackknife = 400 * score - 399 * np.array(left_out)
    np.testing.assert_allclose(values, jackknife, atol=0.15 * jackknife.std() + 1e-9)
    samples = [outputs_of(kind, 200, seed) for seed in range(600)]
    errors = [metric.pseudo_values(*sample).std(ddof=1) / 200**0.5 for sample in samples]
    assert np.mean(errors) == pytest.approx(np.std([metric.score(*sample) for sample in samples]), rel=0.1)


def test_a_line_keeps_them_to_half_precision() -> None:
    values = np.random.default_rng(0).standard_normal(COUNT)
    outputs = {"outputs": np.zeros((COUNT, 1)), "labels": np.zeros(COUNT), PSEUDO_VALUES: values}
    cuts = {"cut/4": {"outputs": np.zeros((COUNT, 1)), PSEUDO_VALUES: -values}}
    line = {"run_id": "a", "inputs": {"examples": EXAMPLES}} | answers_of(outputs, cuts)
    assert CORRECT not in line
    assert LOSSES not in line
    back = by_example(line, PSEUDO_VALUES)
    np.testing.assert_allclose(back, values, rtol=2**-11, atol=1e-7)
    np.testing.assert_array_equal(cuts_by_example(line, PSEUDO_VALUES, "cut")[4], -back)


def correlated(line: dict[str, Any]) -> dict[str, Any]:
    """A line of the synthetic study as one of a regression: its score becomes Pearson's r, and the right answers
    become pseudo-values around it."""
    line = copy.deepcopy(line)
    line["metric"] = "pearson"
    line["metrics"] = {key.replace("accuracy", "pearson"): score for key, score in line["metrics"].items()}
    line["config"]["task"]["kind"] = "regression"
    line["inputs"]["classes"] = []
    line.pop(LOSSES, None)
    if CORRECT in line:
        line[PSEUDO_VALUES] = line.pop(CORRECT).astype(np.float16)
    if CUT_ANSWERS in line:
        line[CUT_PSEUDO_VALUES] = {key: right.astype(np.float16) for key, right in line.pop(CUT_ANSWERS).items()}
    return line


def test_r_and_k_are_decided_as_by_right_answers() -> None:
    """The same numbers, once as answers and once as pseudo-values, give the same intervals and ranks."""
    plain = study()
    counted = present(plain)
    as_values = changed(counted, correlated)
    for arm, gain in comparison.gains(counted, TASK).items():
        assert comparison.gains(as_values, TASK)[arm].low == pytest.approx(gain.low, abs=1e-6)
        assert comparison.gains(as_values, TASK)[arm].examples == COUNT
    assert comparison.enough(as_values, TASK) == comparison.enough(counted, TASK)
    assert update.is_on_test(as_values, TASK)
    assert sorted(update.gains(as_values, TASK)) == list(CUT_RANKS)
    assert update.functional_rank(as_values, TASK) == update.functional_rank(counted, TASK)
    assert comparison.covers_examples(as_values, TASK)


# ---- right answers and log losses

FINAL = line(Cell("final", "reviews", "full", 2e-4, 0), 0.8, PROTOCOL)


@pytest.mark.parametrize("classes", [2, 20])
def test_log_losses_are_the_cross_entropies_in_nats(classes: int) -> None:
    draw = np.random.default_rng(classes)
    outputs, labels = 4 * draw.standard_normal((COUNT, classes), np.float32), draw.integers(0, classes, COUNT)
    packed = answers_of({"outputs": outputs, "labels": labels, CORRECT: outputs.argmax(1) == labels}, {})
    assert packed[LOSSES].dtype == np.float16
    expected = cross_entropy(torch.from_numpy(outputs), torch.from_numpy(labels), reduction="none")
    losses = by_example(FINAL | packed, LOSSES)
    np.testing.assert_allclose(losses, expected.numpy(), rtol=1e-3, atol=1e-6)
    assert (packed[CORRECT] == (outputs.argmax(1) == labels)).all()


def test_answers_that_are_no_classes_have_no_losses() -> None:
    numbers = {"outputs": np.zeros((COUNT, 1), np.float32), "labels": np.zeros(COUNT, np.float32)}
    assert answers_of(numbers, {}) == {}
    texts = {"outputs": np.zeros((COUNT, 5)), "labels": np.full(COUNT, "a"), CORRECT: np.ones(COUNT, bool)}
    assert list(answers_of(texts, {})) == [CORRECT]
    assert by_example(FINAL, LOSSES) is None


def test_answers_of_cuts_are_read_by_part_and_in_the_order_of_k() -> None:
    right = np.arange(COUNT) % 3 == 0
    outputs = {"outputs": np.zeros((COUNT, 2)), "labels": np.zeros(COUNT, np.int64), CORRECT: right}
    cuts = {"cut/16": outputs, "cut/2": outputs}
    made = FINAL | answers_of(outputs, cuts | {"remainder/4": outputs | {CORRECT: ~right & right}})
    assert list(cuts_by_example(made, CORRECT, "cut")) == [2, 16]
    assert (cuts_by_example(made, CORRECT, "cut")[16] == right).all()
    assert not cuts_by_example(made, CORRECT, "remainder")[4].any()
    assert cuts_by_example(FINAL, CORRECT, "cut") == {}
