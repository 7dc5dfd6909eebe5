"""A run that trained in bf16 is scored in it only where that changes next to no answer."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from lorax_lab import findings
from lorax_lab.findings import FLIPS, scored_in
from lorax_lab.launch.compose import compose
from lorax_lab.methods import METHODS
from lorax_lab.models import adaptable, keep_frozen_in_bf16, load_base
from lorax_lab.record.result import Scoring
from lorax_lab.tasks import load_task
from lorax_lab.tasks.split import Split, encode

BF16 = partial(torch.autocast, "cpu", torch.bfloat16)


def planted(small_run: list[str], common: float, clear: float, *more: str) -> tuple[nn.Module, dict[str, Split]]:
    """LoRA on a base whose logits are `common`, of the first class `clear` more, with differences of thousandths."""
    task = load_task(compose([*small_run, "rank=2", *more]).task)
    base = load_base(compose(small_run).model, task.head, 0)
    METHODS["lora"].attach(base.model, list(adaptable(base.model)), METHODS["lora"].settings(), 2, torch.Generator())
    with torch.no_grad():
        base.model.classifier.weight.mul_(0.01)
        base.model.classifier.bias.fill_(common)
        base.model.classifier.bias[0] += clear
    return base.model, {
        name: replace(split, autocast=BF16) for name, split in encode(task, base.processor, base.sha256).items()
    }


@pytest.mark.parametrize(("common", "clear", "precision"), [(64.0, 0.0, "fp32"), (0.0, 64.0, "bf16")])
def test_near_ties_are_scored_in_fp32_and_clear_answers_are_not(
    common: float, clear: float, precision: str, small_run: list[str]
) -> None:
    model, splits = planted(small_run, common, clear)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exact = {name: replace(split, autocast=nullcontext) for name, split in splits.items()}
    in_fp32 = exact["test"].outputs(model)
    frozen = keep_frozen_in_bf16(model)
    answers = splits["validation"].outputs(model).argmax(1)
    chosen, validation, scoring = scored_in(model, splits, frozen, "bf16", {})
    assert (scoring.precision, scoring.examples) == (precision, 64)
    assert (scoring.flips is not None and scoring.flips >= FLIPS * 64) == (precision == "fp32")
    assert torch.equal(chosen["test"].outputs(model), in_fp32) == (precision == "fp32")
    assert validation == chosen["validation"].score(model)
    assert answers.unique().tolist() == [0], "bf16 sees ties, and its answer to a tie is the first class"
    if precision == "fp32":
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_numbers_have_no_flips_and_are_scored_in_fp32(small_run: list[str], tmp_path: Any) -> None:
    table = tmp_path / "numbers.csv"
    rows = [f"a story {'the ' * (i % 15)}{'of ' * (i // 15)}end,{i / 7}\n" for i in range(240)]
    table.write_text("sentence,label\n" + "".join(rows))
    model, splits = planted(small_run, 0.0, 0.0, f"task.path={table}", "task.kind=regression")
    _, _, scoring = scored_in(model, splits, keep_frozen_in_bf16(model), "bf16", {})
    assert scoring == Scoring("fp32")


def test_where_fp32_has_no_room_the_record_says_that_flips_were_not_counted(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(findings, "put_back", no_room)
    model, splits = planted(small_run, 64.0, 0.0)
    chosen, _, scoring = scored_in(model, splits, keep_frozen_in_bf16(model), "bf16", {})
    assert (chosen, scoring) == (splits, Scoring("bf16"))


def test_a_run_in_fp32_is_scored_once(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Split, "outputs", lambda *_: pytest.fail("it was scored again"))
    assert scored_in(nn.Linear(1, 1), {"validation": None}, {}, "fp32", {"accuracy": 0.5}) == (
        {"validation": None}, {"accuracy": 0.5}, None,
    )  # fmt: skip
