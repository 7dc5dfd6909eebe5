"""What a line keeps of each test example comes back as it was, and damage to it is named."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import EXAMPLES, PROTOCOL, line
from torch.nn.functional import cross_entropy

from lorax_lab.study.answers import (
    CORRECT,
    CUT_ANSWERS,
    LOSSES,
    correct_answers,
    cut_answers,
    log_losses,
    packed_answers,
)
from lorax_lab.study.protocol import Cell
from lorax_lab.study.published import read_lines, write_lines

COUNT = EXAMPLES["test"]
BYTES = COUNT // 8
FINAL = line(Cell("final", "reviews", "full", 2e-4, 0), 0.8, PROTOCOL)


def outputs_of(classes: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(classes)
    outputs = 4 * draw.standard_normal((COUNT, classes), np.float32)
    return {"outputs": outputs, "labels": draw.integers(0, classes, COUNT)}


@pytest.mark.parametrize("classes", [2, 20])
def test_log_losses_are_the_cross_entropies_in_nats(classes: int) -> None:
    test = outputs_of(classes)
    packed = packed_answers(test, {})
    assert len(packed[LOSSES]) < 3 * COUNT  # 2.7 characters an example
    expected = cross_entropy(torch.from_numpy(test["outputs"]), torch.from_numpy(test["labels"]), reduction="none")
    losses = log_losses(FINAL | packed)
    assert losses is not None
    np.testing.assert_allclose(losses, expected.numpy(), rtol=1e-3, atol=1e-6)
    right = correct_answers(FINAL | packed)
    assert (right == (test["outputs"].argmax(1) == test["labels"])).all()


def test_a_loss_that_is_too_large_for_its_type_is_its_largest_value() -> None:
    test = {
        "outputs": np.array([[1e6, 0.0], [-1e6, 0.0]] * (COUNT // 2), np.float32),
        "labels": np.ones(COUNT, np.int64),
    }
    losses = log_losses(FINAL | packed_answers(test, {}))
    assert losses is not None
    assert set(losses) == {65504.0, 0.0}


def test_answers_that_are_no_classes_have_no_losses() -> None:
    numbers = {"outputs": np.zeros((COUNT, 1), np.float32), "labels": np.zeros(COUNT, np.float32)}
    assert packed_answers(numbers, {}) == {}
    texts = {"outputs": np.zeros((COUNT, 5)), "labels": np.full(COUNT, "a"), CORRECT: np.ones(COUNT, bool)}
    assert list(packed_answers(texts, {})) == [CORRECT]
    assert log_losses(FINAL) is None


def test_answers_of_cuts_are_read_by_part_and_in_the_order_of_k() -> None:
    right = np.arange(COUNT) % 3 == 0
    packed = np.packbits(right).tobytes().hex()
    made = FINAL | {CUT_ANSWERS: {"cut/16": packed, "cut/2": packed, "remainder/4": "00" * BYTES}}
    assert list(cut_answers(made, "cut")) == [2, 16]
    assert (cut_answers(made, "cut")[16] == right).all()
    assert not cut_answers(made, "remainder")[4].any()
    assert cut_answers(FINAL, "cut") == {}


def encoded(losses: Any) -> str:
    return base64.b64encode(np.asarray(losses).astype("<f2").tobytes()).decode()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ({CORRECT: "ff" * (BYTES - 1)}, f"answers of another number than its {COUNT} test examples"),
        ({CORRECT: "ff" * (BYTES + 1)}, f"answers of another number than its {COUNT} test examples"),
        ({CORRECT: "zz" * BYTES}, "hexadecimal"),
        ({LOSSES: encoded(np.zeros(COUNT - 1))}, f"{COUNT - 1} log losses, of {COUNT} test examples"),
        ({LOSSES: encoded(np.full(COUNT, np.nan))}, "one of its log losses is not finite"),
        ({LOSSES: encoded(np.full(COUNT, -0.5))}, "a log loss is below 0"),
        ({LOSSES: "no base 64!"}, "base64"),
        ({CUT_ANSWERS: {"cut/4": "ff"}}, "answers of another number"),
        ({CUT_ANSWERS: {"cuts/4": "ff" * BYTES}}, "cuts/4; its keys are cut/K and remainder/K"),
        ({CUT_ANSWERS: {"cut/four": "ff" * BYTES}}, "cut/four; its keys are"),
    ],
)
def test_a_line_whose_answers_cannot_be_read_is_left_out_and_named(
    harm: dict[str, Any], said: str, tmp_path: Path
) -> None:
    other = line(Cell("final", "reviews", "full", 2e-4, 1), 0.8, PROTOCOL)
    write_lines(tmp_path / "a.jsonl", [FINAL | harm, other])
    lines, damages = read_lines(tmp_path / "a.jsonl")
    assert [kept["run_id"] for kept in lines] == [other["run_id"]]
    assert len(damages) == 1
    assert said in damages[0]
