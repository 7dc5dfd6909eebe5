"""What a published run keeps of each test example."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from synthetic import EXAMPLES, PROTOCOL, line
from torch.nn.functional import cross_entropy

from lorax_lab.study.answers import (
    CORRECT,
    LOSSES,
    answers_of,
    correct_answers,
    cut_answers,
    log_losses,
)
from lorax_lab.study.protocol import Cell

COUNT = EXAMPLES["test"]
FINAL = line(Cell("final", "reviews", "full", 2e-4, 0), 0.8, PROTOCOL)


def outputs_of(classes: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(classes)
    outputs = 4 * draw.standard_normal((COUNT, classes), np.float32)
    labels = draw.integers(0, classes, COUNT)
    return {"outputs": outputs, "labels": labels, CORRECT: outputs.argmax(1) == labels}


@pytest.mark.parametrize("classes", [2, 20])
def test_log_losses_are_the_cross_entropies_in_nats(classes: int) -> None:
    test = outputs_of(classes)
    packed = answers_of(test, {})
    assert packed[LOSSES].dtype == np.float16
    expected = cross_entropy(torch.from_numpy(test["outputs"]), torch.from_numpy(test["labels"]), reduction="none")
    losses = log_losses(FINAL | packed)
    assert losses is not None
    np.testing.assert_allclose(losses, expected.numpy(), rtol=1e-3, atol=1e-6)
    right = correct_answers(FINAL | packed)
    assert (right == (test["outputs"].argmax(1) == test["labels"])).all()


def test_answers_that_are_no_classes_have_no_losses() -> None:
    numbers = {"outputs": np.zeros((COUNT, 1), np.float32), "labels": np.zeros(COUNT, np.float32)}
    assert answers_of(numbers, {}) == {}
    texts = {"outputs": np.zeros((COUNT, 5)), "labels": np.full(COUNT, "a"), CORRECT: np.ones(COUNT, bool)}
    assert list(answers_of(texts, {})) == [CORRECT]
    assert log_losses(FINAL) is None


def test_answers_of_cuts_are_read_by_part_and_in_the_order_of_k() -> None:
    right = np.arange(COUNT) % 3 == 0
    outputs = {"outputs": np.zeros((COUNT, 2)), "labels": np.zeros(COUNT, np.int64), CORRECT: right}
    cuts = {"cut/16": outputs, "cut/2": outputs}
    made = FINAL | answers_of(outputs, cuts | {"remainder/4": outputs | {CORRECT: ~right & right}})
    assert list(cut_answers(made, "cut")) == [2, 16]
    assert (cut_answers(made, "cut")[16] == right).all()
    assert not cut_answers(made, "remainder")[4].any()
    assert cut_answers(FINAL, "cut") == {}
