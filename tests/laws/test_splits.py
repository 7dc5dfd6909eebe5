"""Cuts and ranks are chosen on validation and judged on test: on planted data, where the two need other directions."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lorax_lab import findings
from lorax_lab.audit import cuts
from lorax_lab.config.measured import CONTROLS, CURVE, K90, TEST_CUTS
from lorax_lab.measure.rows import decompose

SIDE, EXAMPLES = 8, 400
CURVES = {"validation": lambda k: 0.5 + min(k, 4) / 8, "test": lambda k: 0.1 + k / 10}
"""The share of right answers by the number of directions that the model holds."""


class Planted:
    """A split of which the model's weight alone says how many answers are right."""

    groups = labels = None
    rows = range(EXAMPLES)

    def __init__(self, curve: Callable[[int], float], **of_task: Any) -> None:
        names = {"metric": "accuracy", "higher_is_better": True, "config": SimpleNamespace(name="planted")}
        self.curve, self.task = curve, SimpleNamespace(**names | of_task, score=self.score_of)

    def score_of(self, outputs: np.ndarray, labels: None) -> dict[str, float]:
        return {"accuracy": float(outputs.mean())}

    def outputs(self, model: nn.Module) -> Tensor:
        held = int((model.get_parameter("dense.weight").diag() > 0.5).sum())
        return torch.arange(EXAMPLES) < round(EXAMPLES * self.curve(held))

    def score(self, model: nn.Module) -> dict[str, float]:
        return self.score_of(self.outputs(model).float().numpy(), None)

    def answered(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        return {"correct": outputs, "labels": np.zeros(EXAMPLES)}


def planted() -> tuple[nn.Module, dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """A model, its bases, its updates, whose directions are the axes, and its splits."""
    model = nn.ModuleDict({"dense": nn.Linear(SIDE, SIDE, bias=False)}).requires_grad_(False)
    update = torch.arange(SIDE, 0, -1.0).diag()
    model.get_parameter("dense.weight").copy_(update)
    splits = {name: Planted(curve) for name, curve in CURVES.items()}
    return model, {"dense": torch.zeros(SIDE, SIDE)}, {"dense": update.double()}, splits


@pytest.mark.parametrize(
    ("measured", "zero", "asked"),
    [(K90, -10.0, [0, 1, 8]), *((measured, None, [0, 1, 2, 4, 8]) for measured in (K90, TEST_CUTS, CURVE, CONTROLS))],
)
def test_cuts_and_k90_are_of_validation_and_their_answers_of_test(
    measured: str, zero: float | None, asked: list[int]
) -> None:
    """k90 keeps .95 of right answers, so that it is 4; over a head of −10 no direction is needed. On test it is 8."""
    model, original, updates, splits = planted()
    method: Any = SimpleNamespace(updates=lambda *_: updates, is_reference=True, update_dtype=torch.float32)
    whole = splits["validation"].score(model)
    made = findings.measure(model, method, original, None, splits, whole, zero, measured, 0, lambda *_: None)
    assert made.scores == {"test": {"accuracy": pytest.approx(0.9)}}
    curve = {row["k"]: row["accuracy"] for row in made.truncation if row["part"] == "cut" and row["module"] is None}
    assert curve == pytest.approx({k: CURVES["validation"](k) for k in asked})
    on_test = {name: float(answers["correct"].mean()) for name, answers in made.cut_outputs.items()}
    asked_on_test = asked if measured in (TEST_CUTS, CONTROLS) else []
    assert on_test == pytest.approx({f"cut/{k}": CURVES["test"](k) for k in asked_on_test})


def test_a_card_chooses_on_validation_and_judges_on_test(monkeypatch: pytest.MonkeyPatch) -> None:
    model, original, updates, splits = planted()
    monkeypatch.setattr(cuts, "Split", SimpleNamespace(encoded=lambda task, split, processor: split))
    tuned = cuts.Tuned(model, original, decompose(updates), {})
    task: Any = SimpleNamespace(**vars(splits["test"].task), splits=splits)
    made = cuts.score(tuned, task, None, 0.02, lambda *_: None)
    assert (made["chosen"], made["full"]) == (4, SIDE)
    assert made["whole"] == pytest.approx({"validation": 1.0, "test": 0.9})
    for cut in made["cuts"]:
        assert (cut["score"] - 1, cut["score"]) == pytest.approx((cut["difference"], CURVES["validation"](cut["k"])))
    assert (made["test"]["score"], made["test"]["difference"]) == pytest.approx((0.5, -0.4))
    narrow = cuts.score(tuned, task, None, 0.003, lambda *_: None)  # alike, and not surely: (1 / 402) · 1.645 = .004
    assert narrow["chosen"] == SIDE


LOST = np.arange(98) < 19
GAINS = np.array([-1.0, -3.0, -2.0, -6.0])


@pytest.mark.parametrize(
    ("key", "cut", "groups", "mean", "one", "two"),
    [
        ("correct", ~LOST, None, -0.19, 1.6449 * 0.0404846, 1.95996 * 0.0404846),  # √((.2 − .19²) / 100)
        ("pseudo_values", GAINS, None, -3.0, 1.6449 * 1.0801, 1.95996 * 1.0801),  # √(14 / 3 / 4)
        ("pseudo_values", GAINS, np.array([0, 0, 1, 1]), -3.0, 6.3138, 12.7062),  # of two pairs: Student's of 1 degree
        ("pseudo_values", GAINS, np.array([0, 1, 2, 3]), -3.0, 2.35336 * 1.0801, 3.18245 * 1.0801),
    ],
)
def test_the_ends_of_a_cuts_interval_are_those_worked_out_by_hand(
    key: str, cut: np.ndarray, groups: np.ndarray | None, mean: float, one: float, two: float, higher: bool
) -> None:
    """Answers count as right or wrong where the score is an accuracy; there half an answer is added to each kind."""
    split: Any = Planted(float, metric="accuracy" if key == "correct" else "nats", higher_is_better=higher)
    split.groups = groups
    before = np.ones(98, bool) if key == "correct" else np.zeros(4)
    sign = 1 if higher else -1
    made = cuts._change(split, (1.0, {key: before}), (0.5, {key: cut}))
    assert made.difference == -0.5 * sign
    assert made[1:] == pytest.approx((sign * mean - one, sign * mean - two, sign * mean + two), abs=1e-3)
