"""The loop: steps, schedule, accumulation, validation points, streams, divergence."""

from __future__ import annotations

import copy
import itertools
import math
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from lorax_lab import distributed
from lorax_lab import train as training
from lorax_lab.config import TrainConfig
from lorax_lab.errors import ConfigError, Diverged
from lorax_lab.launch.compose import compose
from lorax_lab.record.checkpoints import Checkpoints, Position
from lorax_lab.streams import generator
from lorax_lab.train import Batch, learning_rate_factor, make_optimizer, train


def settings(**changes: Any) -> TrainConfig:
    words = {"device": "cpu", "precision": "fp32", "learning_rate": 0.1, "weight_decay": 0.0} | changes
    return compose([f"train.{key}={value}" for key, value in words.items()]).train


NONE, NO_SCALER = Checkpoints(Path("nowhere"), {}, None, print), torch.amp.GradScaler("cpu", enabled=False)


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 1))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(x) @ self.weight


def score(validation: dict[str, float]) -> float:
    return validation.get("accuracy", 0.0)


def squared_error(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return (model(inputs["x"]) - inputs["y"]).square().mean()


def batches(count: int, size: int = 4) -> list[Batch]:
    draw = generator(0, "batches")
    made = []
    for _ in range(count):
        x = torch.randn(size, 3, generator=draw)
        made.append(Batch({"x": x, "y": x.sum(1, keepdim=True)}, weight=size, examples=size, tokens=3 * size))
    return made


def run(
    model: nn.Module,
    config: TrainConfig,
    data: list[Batch],
    seed: int = 0,
    validate: Callable[[], dict[str, float]] = lambda: {"accuracy": 1.0},
    loss: Callable[..., torch.Tensor] = squared_error,
    after: Callable[[int, int], None] | None = None,
) -> tuple[Any, list[int]]:
    pauses: list[int] = []
    steps: list[int] = []

    def noted() -> dict[str, float]:
        pauses.append(len(steps) + 1)
        return validate()

    on_step = lambda step, total, metrics: steps.append(step)  # noqa: E731
    result = train(model, lambda epoch: data, loss, config, seed, noted, score, [on_step], NONE, after)
    assert steps == list(range(1, result.steps + 1))
    return result, pauses


@pytest.mark.parametrize(
    ("changes", "steps", "used"),
    [
        ({}, 5, 5), ({"epochs": 3}, 15, 15), ({"gradient_accumulation": 2}, 3, 5),
        ({"gradient_accumulation": 3, "epochs": 2}, 4, 10),
        ({"max_steps": 4, "epochs": 3}, 4, 4), ({"max_steps": 99}, 5, 5),
    ],
)  # fmt: skip
def test_steps_and_examples_follow_from_five_batches_of_four(changes: dict[str, int], steps: int, used: int) -> None:
    config = settings(**changes)
    assert training.plan_steps(config, 5) == steps
    result, _ = run(Line(), config, batches(5))
    assert result.steps == len(result.history) == steps
    assert (result.examples, result.tokens) == (4 * used, 12 * used)


def test_the_examples_of_a_short_last_batch_are_its_own() -> None:
    result, _ = run(Line(), settings(epochs=2, gradient_accumulation=3), [*batches(2), *batches(1, size=3)])
    assert (result.examples, result.tokens) == (22, 66)


def test_each_epochs_batches_are_asked_for_once_and_each_sink_gets_each_row() -> None:
    asked: list[int] = []
    rows: list[tuple[int, int, dict[str, float]]] = []

    def epoch(number: int) -> list[Batch]:
        asked.append(number)
        return batches(2)

    config = settings(epochs=3, validations=1)
    sinks = [lambda *row: rows.append(row)] * 2
    result = train(Line(), epoch, squared_error, config, 0, lambda: {"accuracy": 1.0}, score, sinks, NONE)
    assert asked == [0, 1, 2]
    assert rows == [(row["step"], 6, row) for row in result.history for _ in sinks]
    keys = {"step", "train/loss", "train/gradient_norm", "train/learning_rate"}
    assert [set(row) - keys for row in result.history] == [set()] * 5 + [{"validation/accuracy"}]


@pytest.mark.parametrize(("rank", "stream"), [(0, "dropout"), (1, "dropout-1")])
def test_what_is_handed_on_is_what_was_given(rank: int, stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scaler to checkpoints, and to each process its stream."""
    calls: dict[str, Any] = {}

    class Noted(Checkpoints):
        def due(self) -> bool:
            return True

        def load(self, *given: Any) -> None:
            calls["load"] = given

        def save(self, *given: Any) -> None:
            calls["save"] = given

    model, config = Line(), settings()
    model.dropout.requires_grad_(False)
    streams = training.global_stream
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "sum_gradients", lambda parameters: calls.update(parameters=parameters))
    monkeypatch.setattr(training, "global_stream", lambda *given: calls.update(stream=given) or streams(*given))
    checkpoints = Noted(Path("nowhere"), {}, None, print)
    train(model, lambda epoch: batches(1), squared_error, config, 3, dict, score, [], checkpoints)
    assert calls["stream"] == (3, stream)
    assert calls["parameters"] == [model.weight]
    assert calls["load"][0] is model
    assert not calls["load"][2].is_enabled()
    if rank == 0:
        assert calls["save"][:3] == calls["load"]
        assert calls["save"][3].step == 1


def test_only_a_scaler_may_leave_a_norm_that_is_not_finite() -> None:
    row = training._read(2, [torch.tensor(1.0), torch.tensor(2.0)], torch.tensor(math.inf), 0.1, 5, False)
    assert row == {"step": 2, "train/loss": 3.0, "train/gradient_norm": math.inf, "train/learning_rate": 0.1}
    with pytest.raises(Diverged, match=r"^gradient norm inf at step 2 of 5$"):
        training._read(2, [torch.tensor(1.0)], torch.tensor(math.inf), 0.1, 5, True)


class OfAGpu:
    """Stands for a tensor, and notes where it goes."""

    def __init__(self, history: tuple[Any, ...] = ()) -> None:
        self.history = history

    def pin_memory(self) -> OfAGpu:
        return OfAGpu((*self.history, "pinned"))

    def to(self, device: torch.device, non_blocking: bool) -> OfAGpu:
        return OfAGpu((*self.history, device.type, non_blocking))


@pytest.mark.parametrize(("device", "history"), [("cuda", ("pinned", "cuda", True)), ("cpu", ("cpu", False))])
def test_a_batch_goes_to_a_gpu_from_pinned_memory_and_nothing_waits(device: str, history: tuple[Any, ...]) -> None:
    batch = Batch({"x": OfAGpu()}, 2.0, 3, 4, 0.5)
    moved = batch.to(torch.device(device))
    assert moved.inputs["x"].history == history
    assert replace(moved, inputs=batch.inputs) == batch


@pytest.mark.parametrize(("rows", "processes"), [(7, 1), (7, 2), (8, 4), (3, 4)])
def test_each_row_of_a_batch_is_of_one_process(rows: int, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"x": torch.arange(1.0, rows + 1), "y": torch.ones(rows, 2)}
    batch = Batch(inputs, weight=float(inputs["x"].sum()), examples=rows, tokens=2 * rows)
    monkeypatch.setattr(distributed, "processes", lambda: processes)
    parts = []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(batch.mine(lambda inputs: float(inputs["x"].sum())))
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert torch.equal(torch.cat([part.inputs["x"] for part in parts if part.share]), batch.inputs["x"])
    assert all(len(part.inputs["x"]) == len(part.inputs["y"]) >= 1 for part in parts), "each process takes every step"
    assert all(len(part.inputs["x"]) == 1 for part in parts if not part.share)
    assert all(replace(part, inputs=batch.inputs, share=batch.share) == batch for part in parts)


def test_the_loss_of_a_part_counts_by_its_share() -> None:
    model, (batch,), device = Line().eval(), batches(1), torch.device("cpu")
    group = [replace(batch, share=0.25)]
    (term,) = training._accumulate(model, group, squared_error, device, nullcontext, NO_SCALER)
    assert float(term) == pytest.approx(squared_error(model, batch.inputs).item() / 4)


NO_FP16 = r"^train.precision=fp16 is not possible on a cpu; type train.precision=bf16 or fp32$"
NO_BF16 = r"^train.precision=bf16 is not possible on this GPU; type train.precision=fp16 or fp32$"
NO_CUDA = r"^train.device=cuda is not on this machine; type train.device=auto$"
MACHINES: list[tuple[dict[str, Any], tuple[bool, bool, bool], str]] = [
    ({"device": "cuda"}, (False, True, True), NO_CUDA),
    ({"device": "mps"}, (True, False, True), "^train.device=mps is not on this machine; type train.device=auto$"),
    ({"device": "mps"}, (False, True, True), "mps"),
    ({"device": "cpu", "precision": "fp32"}, (True, True, False), "cpu"),
    ({"device": "auto", "precision": "fp16"}, (False, False, True), NO_FP16),
    ({"device": "cpu", "precision": "fp16"}, (True, True, True), NO_FP16),
    ({"device": "auto", "precision": "fp16"}, (False, True, True), "mps"),
    ({"device": "auto", "precision": "fp16"}, (True, False, False), "cuda"),
    ({"device": "cpu", "precision": "bf16"}, (True, False, False), "cpu"),
    ({"device": "auto", "precision": "bf16"}, (True, True, False), NO_BF16),
    ({"device": "auto", "precision": "bf16"}, (True, False, True), "cuda"),
    ({"device": "auto", "precision": "bf16"}, (False, True, False), "mps"),
    ({"optimizer": "adam"}, (False, False, False), "^train.optimizer=adam.*adamw"),
    ({"schedule": "step"}, (False, False, False), "^train.schedule=step.*cosine"),
]  # fmt: skip
"""Settings; whether there is CUDA, Metal, and bf16 on CUDA; and the device, or what is said."""


@pytest.mark.parametrize(("changes", "machine", "says"), MACHINES)
def test_what_a_machine_has_not_is_refused(
    changes: dict[str, Any], machine: tuple[bool, bool, bool], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda, mps, bf16 = machine
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    config = replace(settings(), **changes)
    if not says.startswith("^"):
        training.check_machine(config)
        assert training.device_of(config).type == says
        return
    with pytest.raises(ConfigError, match=says):
        training.check_machine(config)


@pytest.mark.parametrize(("validations", "pauses"), [(0, []), (1, [10]), (3, [3, 7, 10]), (5, [2, 4, 6, 8, 10])])
def test_validation_is_evenly_spaced_and_ends_with_the_last_step(validations: int, pauses: list[int]) -> None:
    assert run(Line(), settings(validations=validations), batches(10))[1] == pauses


def test_training_goes_on_in_training_mode_whatever_a_validation_leaves() -> None:
    model, modes = Line(), []

    def validate() -> dict[str, float]:
        model.eval()
        return {}

    def loss(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        modes.append(model.training)
        return squared_error(model, inputs)

    model.eval()
    run(model, settings(validations=3), batches(6), validate=validate, loss=loss)
    assert modes == [True] * 6


@pytest.mark.parametrize(("limit", "factor"), [(1.0, 0.2), (2.5, 0.5), (10.0, 1.0)])
def test_gradients_are_clipped_at_their_norm_over_all_parameters(limit: float, factor: float) -> None:
    """The gradient is (3, 4, 0), of norm 5."""
    model, seen = Line(), []

    def loss(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return 3 * model.weight[0].sum() + 4 * model.weight[1].sum()

    hook = register_optimizer_step_pre_hook(lambda *_: seen.append(model.weight.grad.flatten().tolist()))
    try:
        result, _ = run(model, settings(clip_norm=limit), batches(2), loss=loss)
    finally:
        hook.remove()
    assert seen == [pytest.approx([3 * factor, 4 * factor, 0], rel=1e-4)] * 2
    assert result.history[0]["train/gradient_norm"] == pytest.approx(5)  # as it was before


def test_what_follows_a_step_sees_the_weights_that_it_made_and_its_gradients() -> None:
    model, seen = Line(), []
    before = model.weight.detach().clone()

    def after(step: int, steps: int) -> None:
        assert model.weight.grad is not None
        seen.append((step, steps, bool((model.weight.detach() != before).all())))

    run(model, settings(), batches(2), after=after)
    assert seen == [(1, 2, True), (2, 2, True)]


class Killed(BaseException):
    """The end of a process, in the middle of training."""


def resumed(folder: Path, config: TrainConfig, kills: list[int], seconds: float | None = 0.0) -> tuple[Any, Line]:
    """Train over batches that differ from epoch to epoch, with the process ended after each of these steps. The score
    of a validation goes up and down with the last bits of the weights."""

    def epoch(number: int) -> list[Batch]:
        return batches(12)[4 * number : 4 * number + 4]

    for last in [*kills, 0]:
        model = Line()

        def on_step(step: int, *_: Any, last: int = last) -> None:
            if step == last:
                raise Killed

        try:
            checkpoints = Checkpoints(folder, {}, seconds, print)
            validate = lambda model=model: {"accuracy": math.sin(1e6 * float(model.weight.detach().sum()))}  # noqa: E731
            result = train(model, epoch, squared_error, config, 3, validate, score, [on_step], checkpoints)
        except Killed:
            continue
    return result, model


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
@pytest.mark.parametrize(
    "ends", [{"keep": "last"}, {"keep": "best"}, {"keep": "best", "patience": 3}, {"precision": "fp16"}]
)
def test_a_run_that_is_killed_keeps_the_best_weights_and_its_patience(
    tmp_path: Path, optimizer: str, ends: dict[str, Any]
) -> None:
    """Killed after every step too, and between the last step and what follows it."""
    config = settings(epochs=3, validations=12, optimizer=optimizer, **ends)
    whole, model = resumed(tmp_path / "whole", config, [])
    for name, kills in (("late", [5]), ("each", list(range(1, whole.steps))), ("end", [whole.steps])):
        result, other = resumed(tmp_path / name, config, kills)
        assert (result.steps, result.kept) == (whole.steps, whole.kept)
        assert str(result.history) == str(whole.history)  # a norm that overflows in fp16 may be NaN
        assert (result.examples, result.tokens) == (whole.examples, whole.tokens)
        assert torch.equal(other.weight, model.weight)


def test_the_weights_that_are_kept_are_those_of_the_best_validation() -> None:
    scores = [0.5, float("nan"), 0.8, 0.7, 0.8, 0.6]
    for keep, kept in (("best", 3), ("last", 6)):
        model, seen = Line(), []

        def validate(model: Line = model, seen: list[torch.Tensor] = seen) -> dict[str, float]:
            seen.append(model.weight.detach().clone())
            return {"accuracy": scores[len(seen) - 1]}

        result, _ = run(model, settings(keep=keep, validations=6), batches(6), validate=validate)
        assert (result.steps, result.kept) == (6, kept)
        assert result.metrics("validation") == {"accuracy": scores[kept - 1]}
        assert torch.equal(model.weight.detach(), seen[kept - 1])
        assert result.metrics("train")["loss"] == result.history[kept - 1]["train/loss"]


@pytest.mark.parametrize("patience", [1, 2, 5])
@pytest.mark.parametrize("validation", [{"accuracy": 1.0}, {"accuracy": float("nan")}])
def test_training_ends_after_so_many_validations_without_a_better_one(
    patience: int, validation: dict[str, float]
) -> None:
    """Equal scores are no better, and the first number is."""
    config, first = settings(patience=patience, validations=10), math.isfinite(validation["accuracy"])
    result, pauses = run(Line(), config, batches(20), validate=lambda: validation)
    assert len(pauses) == patience + first
    assert result.steps == result.kept == result.history[-1]["step"] == pauses[-1] == 2 * (patience + first)


def test_a_better_validation_starts_the_patience_anew() -> None:
    scores = iter([1, 0, 2, 1, 3, 3, 2, 9, 9, 9])
    config = settings(patience=2, validations=10)
    result, pauses = run(Line(), config, batches(10), validate=lambda: {"accuracy": next(scores)})
    assert result.steps == len(pauses) == 7
    assert result.history[-1]["train/learning_rate"] == pytest.approx(0.1 * 4 / 9)  # of the ten steps that were planned


def test_the_seconds_of_killed_attempts_are_part_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()  # a clock that goes on by a second whenever it is looked at: at the start and each step
    monkeypatch.setattr("lorax_lab.train.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    result, _ = resumed(tmp_path, settings(epochs=2), [3, 6])
    assert (result.seconds, result.earlier) == (8, 6)
    assert [row["step"] for row in result.history] == list(range(1, 9))


@pytest.mark.parametrize(
    ("warmup", "factors"),
    [(0.25, [0.5, 1, 1, 3 / 4]), (0.3, [0.5, 1, 1, 3 / 4]), (0.0, [1, 5 / 6, 4 / 6, 3 / 6]), (1.0, [1 / 6, 2 / 6])],
)
def test_the_rate_rises_over_the_warm_up_rounded_up_and_falls_to_zero(warmup: float, factors: list[float]) -> None:
    assert [learning_rate_factor(s, 6, warmup, "linear") for s in range(len(factors))] == pytest.approx(factors)
    assert learning_rate_factor(6, 6, 0.3, "linear") == 0


def test_the_cosine_falls_from_one_to_zero_as_torchs_does() -> None:
    used = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(used, T_max=8)
    for step in range(9):
        assert learning_rate_factor(step, 8, 0.0, "cosine") == pytest.approx(used.param_groups[0]["lr"], abs=1e-12)
        used.step()
        torchs.step()
    assert learning_rate_factor(2, 10, 0.2, "cosine") == 1


@pytest.mark.parametrize("schedule", training.SCHEDULES)
def test_every_schedule_starts_at_the_whole_rate_and_never_rises(schedule: str) -> None:
    factors = [learning_rate_factor(step, 20, 0.0, schedule) for step in range(21)]
    assert factors[0] == 1
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == (1 if schedule == "constant" else 0)


def test_the_schedule_is_what_the_optimizer_uses() -> None:
    used: list[float] = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: used.append(optimizer.param_groups[0]["lr"]))
    try:
        history = run(Line(), settings(), batches(10))[0].history
    finally:
        hook.remove()
    assert used == pytest.approx([0.1 * learning_rate_factor(step, 10, 0.1, "linear") for step in range(10)])
    assert [row["train/learning_rate"] for row in history] == used


def test_the_batches_of_a_step_count_by_their_weights() -> None:
    light, heavy = batches(2)
    by_hand = Line()
    by_hand.dropout.p = 0.0
    losses = [squared_error(by_hand, batch.inputs) for batch in (light, heavy)]
    ((losses[0] * 1 + losses[1] * 5) / 6).backward()
    weighted = [replace(light, weight=1), replace(heavy, weight=5)]
    model = Line()
    model.dropout.p = 0.0
    result, _ = run(model, settings(gradient_accumulation=2), weighted)
    assert result.history[0]["train/loss"] == pytest.approx((losses[0].item() + 5 * losses[1].item()) / 6)
    assert result.history[0]["train/gradient_norm"] == pytest.approx(float(by_hand.weight.grad.norm()))


def test_the_run_draws_from_its_own_streams_and_leaves_the_global_one_alone() -> None:
    weights = []
    for state, seed in ((1, 7), (2, 7), (2, 8)):
        torch.manual_seed(state)
        model = Line()
        before = torch.random.get_rng_state()
        run(model, settings(), batches(6), seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        weights.append(model.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("where", "message"), [("loss", "training loss nan"), ("gradient", "gradient norm inf")])
def test_a_value_that_is_not_finite_stops_the_run_before_the_weights_take_it(where: str, message: str) -> None:
    data, model, config = batches(5), Line(), settings(learning_rate=1e-9)
    model.weight.data.fill_(0.02)
    model.dropout.p = 0.0
    if where == "loss":
        data[2].inputs["y"].fill_(float("nan"))
    else:  # predictions of 6e18 have finite squares, but their gradient is above fp32's largest number
        data[2].inputs["x"].fill_(1e20)
    seen: list[torch.Tensor] = []
    keep = lambda *_: seen.append(model.weight.detach().clone())  # noqa: E731
    with pytest.raises(Diverged, match=message):
        train(model, lambda epoch: data, squared_error, config, 0, dict, score, [keep], NONE)
    assert len(seen) == 2
    assert torch.equal(model.weight, seen[-1])


@pytest.mark.parametrize("later", [1, 8])
@pytest.mark.parametrize(
    ("validations", "at", "message"),
    [
        (2, 3, "parameters .* after step 3 of 6"), (2, 2, "training loss nan at step 3 of 6"),
        (2, 1, "training loss nan at step 2 of 6"),
        (2, 6, "parameters .* after step 6 of 6"), (2, 4, "training loss nan at step 5 of 6"),
        (0, 6, "parameters .* after step 6 of 6"), (0, 5, "training loss nan at step 6 of 6"),
    ],
)  # fmt: skip
def test_parameters_are_looked_at_before_a_validation_and_at_the_end(
    validations: int, at: int, message: str, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(training.READ_AFTER, "cpu", later)
    model, config, validated = Line(), settings(validations=validations), list[int]()

    def spoil(step: int, steps: int) -> None:
        if step == at:
            model.weight.data.fill_(math.nan)

    with pytest.raises(Diverged, match=message):
        run(model, config, batches(6), validate=lambda: validated.append(1) or {}, after=spoil)
    assert len(validated) == (validations == 2 and at > 3)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")])
def test_a_model_computes_in_the_precision_of_its_run_while_it_trains(precision: str, dtype: str) -> None:
    model, dtypes = Line(), []

    def loss(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        dtypes.append(model(inputs["x"]).dtype)
        return squared_error(model, inputs)

    run(model, settings(precision=precision), batches(2), loss=loss)
    assert dtypes == [getattr(torch, dtype)] * 2
    assert model(torch.ones(1, 3)).dtype == model.weight.dtype == torch.float32


def test_a_step_whose_gradient_overflows_in_fp16_is_skipped_and_the_next_one_is_clipped_as_it_is_unscaled() -> None:
    """The gradient is (.48, .6, .64), of norm 1. Scaled by 65,536 it is too large; by half of that it is not."""
    model, weights = Line(), []
    model.dropout.p = 0.0
    config = settings(precision="fp16", optimizer="sgd", warmup=0.0, schedule="constant", clip_norm=0.5)
    loss = lambda model, _: model(torch.tensor([[0.48, 0.6, 0.64]])).sum()  # noqa: E731
    after = lambda *_: weights.append(model.weight.detach().flatten().tolist())  # noqa: E731
    result, _ = run(model, config, batches(2), loss=loss, after=after)
    assert [row["train/gradient_norm"] for row in result.history] == [math.inf, pytest.approx(1, rel=1e-3)]
    assert weights == [[0, 0, 0], pytest.approx([-0.024, -0.03, -0.032], rel=1e-3)]


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_the_optimizer_and_its_states_are_gone_when_the_training_is_over(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[torch.optim.Optimizer]] = []

    def noted(*given: Any) -> torch.optim.Optimizer:
        optimizer = make_optimizer(*given)
        made.append(weakref.ref(optimizer))
        return optimizer

    monkeypatch.setattr(training, "make_optimizer", noted)
    run(Line(), settings(optimizer=optimizer), batches(2))
    assert [optimizer() for optimizer in made] == [None]


class Reads(TorchDispatchMode):
    """Notes each number that is read from a tensor, which waits for its device."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self.events.append("read")
        return func(*args, **kwargs or {})


@pytest.mark.parametrize(("after", "waits"), [({"cpu": 4}, [4, 4, 2, 4, 4, 2]), ({}, [16, 4, 16, 4])])
def test_an_accelerator_is_waited_for_at_validations_and_after_some_steps_alone(
    after: dict[str, int], waits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 2 * sum(waits)
    at_once, _ = run(Line(), settings(validations=2, gradient_accumulation=2), batches(count))
    monkeypatch.setattr(training, "READ_AFTER", after)
    events: list[str] = []
    beats: list[str] = []
    monkeypatch.setattr(training.PULSE, "beat", beats.append)

    def noted(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        events.append("step")
        return squared_error(model, inputs)

    with Reads(events):
        later, _ = run(Line(), settings(validations=2, gradient_accumulation=2), batches(count), loss=noted)
    assert later.history == at_once.history
    assert [len(list(group)) // 2 for event, group in itertools.groupby(events) if event == "step"] == waits
    assert beats == ["step"] * sum(waits)


def test_checkpoints_take_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("lorax_lab.record.checkpoints.time.monotonic", lambda: clock.now)
    monkeypatch.setattr("lorax_lab.record.checkpoints.write_json", lambda *_: setattr(clock, "now", clock.now + 9.0))
    monkeypatch.setattr("lorax_lab.record.checkpoints.os.replace", lambda *_: None)
    checkpoints, model = Checkpoints(tmp_path, {}, 60.0, print), Line()
    clock.now = 60.0
    assert checkpoints.due()
    checkpoints.save(model, make_optimizer(model, "sgd", 0.1, 0.0), NO_SCALER, Position())
    clock.now += 179.0
    assert not checkpoints.due()
    clock.now += 2.0
    assert checkpoints.due()


def test_decay_is_for_matrices_only() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    groups = make_optimizer(model, "adamw", 0.1, weight_decay=0.5).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.5), (3, 0.0)]
    (kernel,) = make_optimizer(nn.Conv1d(2, 2, 3, bias=False), "muon", 0.1, weight_decay=0.5).param_groups
    assert (kernel["weight_decay"], kernel["use_muon"]) == (0.5, False)


class Mixed(nn.Module):
    """A matrix, its bias, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(7, 4), nn.Linear(4, 3)


def test_muon_steps_are_torchs_own_on_matrices_and_adamws_on_the_rest() -> None:
    torch.manual_seed(0)
    model = Mixed()
    same = copy.deepcopy(model)
    rest = [same.embedding.weight, same.linear.bias]
    alone = [
        torch.optim.Muon([same.linear.weight], lr=0.1, weight_decay=0.5, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([{"params": rest[:1], "weight_decay": 0.5}, {"params": rest[1:], "weight_decay": 0}], lr=0.1),
    ]
    ours = make_optimizer(model, "muon", 0.1, weight_decay=0.5)
    for _ in range(3):
        for mine, other in zip(model.parameters(), same.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        for optimizer in (ours, *alone):
            optimizer.step()
        saved = copy.deepcopy(ours.state_dict())
        ours = make_optimizer(model, "muon", 0.1, weight_decay=0.5)
        ours.load_state_dict(saved)
    assert torch.equal(model.linear.weight, same.linear.weight)
    for mine, other in zip(model.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_every_optimizer_trains_every_parameter_at_the_rate_of_its_groups(optimizer: str) -> None:
    torch.manual_seed(0)
    model = Mixed()
    made = make_optimizer(model, optimizer, 0.1, weight_decay=0.0)
    assert sum(len(group["params"]) for group in made.param_groups) == 3
    assert {group["lr"] for group in made.param_groups} == {0.1}
    for rate, moves in ((0.0, False), (0.1, True)):
        before = [p.detach().clone() for p in model.parameters()]
        for group in made.param_groups:
            group["lr"] = rate
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        made.step()
        assert [not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True)] == [moves] * 3
