"""One run, from its configuration to its record, step by step."""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.config import RunConfig
from lorax_lab.config.identity import check_planned, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from lorax_lab.findings import Findings
    from lorax_lab.memory import Ledger
    from lorax_lab.models import Census
    from lorax_lab.record.checkpoints import Checkpoints
    from lorax_lab.record.record import Record
    from lorax_lab.record.result import Coverage, Time
    from lorax_lab.tasks import Task
    from lorax_lab.tasks.split import Split
    from lorax_lab.train import Batch, TrainResult

    Sink = Callable[[int, int, Mapping[str, float]], None]


def execute(
    config: RunConfig,
    run_id: str,
    folder: Path,
    reference: Path | None,
    check: Callable[[], None],
    data_sha256: str | None = None,
    kernel: str = "torch",
    sinks: Sequence[Sink] = (),
) -> Record:
    """One run, from its configuration to its record.

    Args:
        folder: where its files go.
        reference: folder of the completed full fine-tune that the run is compared with.
        check: called before each checkpoint, result and record takes its place; raises where it is no longer wanted.
        data_sha256: the data's hash when the run was planned; other data are refused.
        kernel: `torch` or `onednn`, what linear layers multiply with.
        sinks: called after each training step as `sink(step, steps, metrics)`.

    Returns:
        The completed record, as written.

    Raises:
        ConfigError: an input that cannot be used. Diverged: a loss, gradient, parameter or output that is not finite.
    """
    from lorax_lab import memory
    from lorax_lab.comparison import read_reference
    from lorax_lab.findings import Findings, measure
    from lorax_lab.methods import METHODS, count_parameters, make_trainable
    from lorax_lab.models import (
        base_weights,
        census,
        head_sha256,
        load_base,
        select,
        use_kernel,
    )
    from lorax_lab.record.folder import files_of, save_config, save_history
    from lorax_lab.record.provenance import new_record
    from lorax_lab.record.record import read_record, write_record
    from lorax_lab.record.result import Inputs, Memory, Parameters, Result
    from lorax_lab.streams import generator
    from lorax_lab.tasks import load_task
    from lorax_lab.tasks.split import encode
    from lorax_lab.train import make_accelerator

    started, fresh_peak = time.time(), memory.reset_peak()
    method = METHODS[config.method.name]

    # data and base
    task = load_task(config.task, data_sha256)
    with memory.explained("weights"):
        base = load_base(config.model, task.head, config.seed, task.kind.model_class, task.kind.processor_class)
    use_kernel(base.model, kernel)
    check_planned(config, run_id, base.sha256, task.data_sha256)
    splits = encode(task, base.processor, base.sha256)
    names = select(base.model, config.method.target_modules)
    original, before, head = base_weights(base.model, names), census(base.model, names), head_sha256(base.model)
    compared, full_update = read_reference(reference, base.model, original) if reference else (None, None)

    # how the base scores before anything changes
    model: nn.Module = base.model
    accelerator = make_accelerator(config.train)
    baselines = _baselines(config, model, splits, accelerator.device)
    splits = {name: dataclasses.replace(split, autocast=accelerator.autocast) for name, split in splits.items()}

    # what may change, what one step of it takes, and training it
    make_trainable(model, names, config, generator(config.seed, "adapter"))
    model.to(accelerator.device)
    ledger = _ledger(config, model, splits["train"], accelerator)
    checkpoints = _checkpoints(config, run_id, folder, check, kernel)
    with memory.explained("activations", ledger, config.train.batch_size, task.kind.smaller):
        trained = _train(config, run_id, model, splits, task, accelerator, checkpoints, sinks)

    # what came of it: a trial is scored on validation alone
    validation = trained.last("validation") or splits["validation"].score(model)
    findings = Findings()
    if config.measure != "trial":
        controls = config.measure == "controls"
        findings = measure(model, method, original, full_update, splits, validation, controls, config.seed)

    # the record, whole
    check()
    save_config(folder, plain(config), check)
    save_history(folder, trained.history, check)
    if config.measure != "trial":
        _save(folder, method.export(model, config.method, base.name), findings, check)
    result = Result(
        inputs=Inputs(base.sha256, task.data_sha256, task.sizes, list(task.classes), head, task.left_out),
        reference=reference.name if reference else None,
        parameters=Parameters(**count_parameters(model)),
        memory=Memory(**dataclasses.asdict(ledger) | _process(fresh_peak)),
        time=_time(trained, findings, started),
        metric=task.metric,
        metrics=_flat({"validation": validation} | findings.scores) | {"train/loss": trained.history[-1]["train/loss"]},
        matrices=findings.matrices,
        truncation=findings.truncation,
        files=files_of(folder),
        baselines=baselines,
        higher_is_better=task.higher_is_better,
        coverage=_coverage(before, model),
        comparison=compared,
        collapsed=_collapsed(config, splits, trained, validation, findings, baselines),
    )
    write_record(folder, new_record(config, run_id, "completed", kernel, result), check)
    checkpoints.clear()
    return read_record(folder)


def _baselines(config: RunConfig, model: nn.Module, splits: dict[str, Split], device: Any) -> dict[str, float]:
    """Scores of the bare base on the test split, by the names that the kind of task gives them; none for a trial. The
    base is on the CPU before and after."""
    from lorax_lab.models import most_tokens
    from lorax_lab.tasks.split import baselines

    chosen = {}
    if config.measure != "trial":
        test = splits["test"]
        chosen = baselines(splits, most_tokens(config.model, test.processor, test.task.kind.model_class))
    if not chosen:
        return {}
    model.to(device)
    scores = {name: split.score(model) for name, split in chosen.items()}
    model.to("cpu")
    return _flat(scores)


def _collapsed(
    config: RunConfig,
    splits: dict[str, Split],
    trained: TrainResult,
    validation: dict[str, float],
    findings: Findings,
    baselines: dict[str, float],
) -> list[str]:
    """Why the run counts as collapsed, by the split whose score stands for it."""
    from lorax_lab.record.scored import scored_on
    from lorax_lab.tasks.collapse import signs

    name, scores = ("validation", validation) if config.measure == "trial" else ("test", findings.scores["test"])
    split, losses = splits[name], [row["train/loss"] for row in trained.history]
    score, words = scores[split.task.metric], scored_on(plain(config), name)
    return signs(split, words, losses, score, findings.outputs.get("outputs"), baselines)


def _time(trained: TrainResult, findings: Findings, started: float) -> Time:
    from lorax_lab.record.result import Time

    work = (trained.seconds, trained.steps, trained.examples, trained.tokens)
    return Time(*work, findings.truncation_seconds, time.time() - started)


def _flat(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """
    >>> _flat({"test": {"accuracy": 0.5}})
    {'test/accuracy': 0.5}
    """
    return {f"{split}/{name}": value for split, metrics in scores.items() for name, value in metrics.items()}


def _coverage(before: Census, model: nn.Module) -> Coverage:
    from lorax_lab.models import coverage
    from lorax_lab.record.result import Coverage, Part

    counts = coverage(before, model)
    return Coverage(**counts | {"parts": [Part(**part) for part in counts["parts"]]})


def _ledger(config: RunConfig, model: nn.Module, split: Split, accelerator: Any) -> Ledger:
    """What one training step on the largest batch holds; the weights keep their bits (the rate is 0)."""
    from lorax_lab.memory import explained, measure_step
    from lorax_lab.streams import global_stream
    from lorax_lab.train import make_optimizer

    def measure(size: int) -> Ledger:
        batch = split.largest_batch(size).to(accelerator.device).inputs
        optimizer = make_optimizer(model, config.train, learning_rate=0.0)
        with global_stream(config.seed, "memory"):
            return measure_step(model, optimizer, batch, accelerator, _loss(config, split.task))

    model.train()
    size = config.train.batch_size
    with explained("activations", lambda: measure(1), size, split.task.kind.smaller):
        return measure(size)


def _process(fresh_peak: bool) -> dict[str, Any]:
    """The peaks of the process and of the device, and whether the first is this run's own."""
    from lorax_lab.memory import peak_device_bytes, peak_resident_bytes

    return {
        "process_peak_bytes": peak_resident_bytes(),
        "process_peak_covers": "run" if fresh_peak else "process",
        "device_peak_bytes": peak_device_bytes(),
    }


def _checkpoints(config: RunConfig, run_id: str, folder: Path, check: Callable[[], None], kernel: str) -> Checkpoints:
    from lorax_lab.record.checkpoints import Checkpoints
    from lorax_lab.record.provenance import new_record

    record = new_record(config, run_id, "running", kernel)
    identity = {
        "run_id": run_id,
        "versions": record.versions,
        "git": dataclasses.asdict(record.git),
        "code": record.code,
        "kernel": kernel,
        "threads": record.hardware["threads"],
    }
    return Checkpoints(folder, identity, config.checkpoint_seconds, _tell, check)


def _train(
    config: RunConfig,
    run_id: str,
    model: nn.Module,
    splits: dict[str, Split],
    task: Task,
    accelerator: Any,
    checkpoints: Checkpoints,
    sinks: Sequence[Sink],
) -> TrainResult:
    from lorax_lab.console import TrainBar
    from lorax_lab.methods import METHODS
    from lorax_lab.streams import generator
    from lorax_lab.train import train

    def epoch(number: int) -> list[Batch]:
        shuffle = generator(config.seed, f"data-{number}")
        return splits["train"].batches(config.train.batch_size, shuffle, config.train.length_window)

    with TrainBar(run_id, f"validation/{task.metric}") as bar:

        def on_step(step: int, steps: int, metrics: dict[str, float]) -> None:
            for sink in (*sinks, bar):
                sink(step, steps, metrics)

        validate = lambda: splits["validation"].score(model)  # noqa: E731
        loss = _loss(config, task)
        stepped = partial(METHODS[config.method.name].stepped, model)
        budget = config.train
        if config.measure == "trial":  # only its last score counts
            budget = dataclasses.replace(budget, validations=min(budget.validations, 1))
        return train(model, epoch, loss, budget, config.seed, accelerator, validate, on_step, checkpoints, stepped)


def _loss(config: RunConfig, task: Task) -> Callable[[nn.Module, dict[str, Tensor]], Tensor]:
    """The loss of the task, with what the method adds to it."""
    from lorax_lab.methods import METHODS

    penalty = METHODS[config.method.name].penalty

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        value, added = task.kind.loss(model, batch), penalty(model)
        return value if added is None else value + added

    return loss


def _save(folder: Path, exported: dict[str, dict[str, Any]], findings: Findings, check: Callable[[], None]) -> None:
    from lorax_lab.record.folder import OUTPUTS, SPECTRA, save_arrays, save_trained

    save_trained(folder, exported, check)
    save_arrays(folder / SPECTRA, findings.spectra, check)
    save_arrays(folder / OUTPUTS, {"test": findings.outputs} | findings.cut_outputs, check)


def _tell(text: str) -> None:
    from lorax_lab.console import console

    console.print(f"  {text}", soft_wrap=True, markup=False)
