"""One run, from its configuration to its record: prepare, train, measure, record."""

import dataclasses
import hashlib
import pickle
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from lorax_lab import distributed, models
from lorax_lab import train as training
from lorax_lab.comparison import read_reference
from lorax_lab.config import RunConfig
from lorax_lab.config.identity import check_planned, plain, science
from lorax_lab.config.measured import TRIAL
from lorax_lab.console import Show, say, unseen
from lorax_lab.findings import Findings, measure, scored_in, without_labels
from lorax_lab.memory import ledger as memory
from lorax_lab.methods import METHODS, count_parameters, make_trainable
from lorax_lab.methods.lineage import Lineage, base_weights
from lorax_lab.methods.method import Method
from lorax_lab.record import folder as files
from lorax_lab.record import provenance
from lorax_lab.record.checkpoints import FOLDER, Checkpoints
from lorax_lab.record.direction import oriented, scored_on
from lorax_lab.record.progress import Sink
from lorax_lab.record.provenance import new_record
from lorax_lab.record.record import DamagedRecord, Record, read_record, write_record
from lorax_lab.record.result import Comparison, Inputs, Memory, Parameters, Probe, Result, Scoring, Time
from lorax_lab.streams import generator, global_stream
from lorax_lab.tasks import Task, load_task
from lorax_lab.tasks.collapse import signs
from lorax_lab.tasks.frozen_head import fitted_head
from lorax_lab.tasks.probes import probes_of
from lorax_lab.tasks.split import Split, encode
from lorax_lab.train import Batch, Loss, TrainResult, autocast_of, device_of, make_optimizer

OF_BATCH_NORMS = ("running_mean", "running_var", "num_batches_tracked")
"""How buffers end that a batch norm changes when it trains."""


@dataclass
class Prepared:
    """What a run has before it trains.

    Attributes:
        base_weights: hash of the base's weights; empty for a trial, which saves none.
        original: the base's target matrices, each (out, in).
        frozen: the weights that are kept in bf16, as they were.
        head_sha256: of the head as it was drawn or loaded.
        full_update: of the full fine-tune that the run is compared with, and `comparison` what identifies it.
        baselines: scores of the bare base on the test split, and of a head alone.
        zeros: what the bare base and a head alone say to the test split, in the run that others are compared with.
        fresh_peak: whether the peak memory of the process is this run's own.
    """

    config: RunConfig
    run_id: str
    folder: Path
    kernel: str
    task: Task
    splits: dict[str, Split]
    method: Method[Any]
    model: nn.Module
    base_name: str
    base_sha256: str
    base_weights: str
    original: dict[str, Tensor]
    frozen: dict[str, Tensor]
    census: models.Census
    head_sha256: str | None
    full_update: Mapping[str, Tensor] | None
    comparison: Comparison | None
    baselines: dict[str, float]
    zeros: dict[str, Any]
    ledger: memory.Ledger
    started: float
    fresh_peak: bool

    @property
    def is_trial(self) -> bool:
        """Whether only the validation score counts."""
        return self.config.measure == TRIAL


def execute(
    config: RunConfig,
    run_id: str,
    folder: Path,
    reference: Path | None,
    kernel: str = "torch",
    sinks: Sequence[Sink] = (),
    show: Show = unseen,
) -> Record:
    """One run, from its configuration to its record.

    Args:
        reference: folder of the completed full fine-tune that the run is compared with.
        kernel: `torch` or `onednn`, what linear layers multiply with.
        show: is told how far the measuring is.

    Raises:
        ConfigError: an input that cannot be used. Diverged: a loss, gradient, parameter or output that is not finite.
    """
    run = prepare(config, run_id, folder, reference, kernel)
    trained = train(run, sinks)
    run.model = distributed.gathered(run.model)
    scored = scored_in(run.model, run.splits, run.frozen, config.train.precision, trained.metrics("validation"))
    run.splits, validation, scoring = scored
    if scoring and scoring.flips is not None:
        differ = f"{scoring.flips} of {scoring.examples} answers on validation differ between {config.train.precision}"
        say(f"  {differ} and fp32: scored in {scoring.precision}")
    findings = Findings()  # a trial is scored on validation alone
    if not run.is_trial:
        zero = run.baselines.get(f"{files.HEAD_ON_VALIDATION}/{run.task.metric}")
        parts = (run.original, run.full_update, run.splits, validation, zero)
        findings = measure(run.model, run.method, *parts, config.measure, config.seed, show, folder)
    return _record(run, trained, validation, scoring, findings, reference)


def take_part(config: RunConfig, run_id: str, folder: Path, kernel: str) -> None:
    """What every process but the first does of a run: its part of the training."""
    run = prepare(config, run_id, folder, None, kernel)
    train(run, ())
    distributed.gathered(run.model)


def prepare(config: RunConfig, run_id: str, folder: Path, reference: Path | None, kernel: str) -> Prepared:
    """Load data and base, score the bare base, attach the method, and measure what a training step holds."""
    distributed.check_joined()
    started, fresh_peak = time.monotonic(), memory.reset_peak()
    task = load_task(config.task)
    base = models.load_base(config.model, task.head, config.seed, task.kind.model_class, task.kind.processor_class)
    model: nn.Module = base.model
    models.use_kernel(base.model, kernel)
    check_planned(config, run_id, base.sha256, task.data_sha256)
    weights = base_weights(config.model) if config.measure != TRIAL and distributed.is_first() else ""
    splits = encode(task, base.processor, base.sha256)
    names = models.select(base.model, config.method.target_modules)
    measured = names if distributed.is_first() else []
    original, head = models.base_weights(base.model, measured, folder), models.head_sha256(base.model)
    census = models.census(base.model, names)
    comparison, full_update = read_reference(reference, base.model, original) if reference else (None, None)

    device = device_of(config.train)
    inputs = [base.sha256, repr(config.task), kernel, device.type]
    of_base, of_head = (partial(_cached, config, folder.parent, splits, of) for of in ([*inputs, head], inputs))
    before = distributed.by_first(lambda: _before(config, model, splits, device, of_base))
    baselines = _flat({name: task.score(outputs, splits["test"].labels) for name, outputs in before.items()})
    head_alone = distributed.by_first(lambda: _head_alone(config, model, splits, device, of_head))
    splits = {name: dataclasses.replace(split, autocast=autocast_of(config.train)) for name, split in splits.items()}
    for split, outputs in (head_alone or {}).items():
        name = files.HEAD_ALONE if split == "test" else files.HEAD_ON_VALIDATION
        baselines |= _flat({name: task.score(outputs, splits[split].labels)})
    zeros = {files.HEAD_ALONE: head_alone["test"]} if head_alone else {}
    if METHODS[config.method.name].is_reference and files.UNTRAINED in before:
        zeros[files.UNTRAINED] = before[files.UNTRAINED]
    make_trainable(model, names, config, generator(config.seed, "adapter"))
    frozen: dict[str, Tensor] = {}
    if config.train.precision == "bf16" and METHODS[config.method.name].multiplies_only:
        before = models.keep_frozen_in_bf16(model)
        frozen = {name: models.mapped(before.pop(name), folder) for name in list(before) if distributed.is_first()}
    if config.train.checkpointing:
        models.checkpoint_layers(model)
    distributed.spread(model, device, config.train.parallel)
    ledger = _ledger(config, model, splits["train"])
    return Prepared(
        config, run_id, folder, kernel, task, splits, METHODS[config.method.name], model, base.name, base.sha256,
        weights, original, frozen, census, head, full_update, comparison, baselines, zeros, ledger, started, fresh_peak,
    )  # fmt: skip


Outputs = dict[str, np.ndarray]
"""Outputs (n, width) by the name of a baseline, or by split."""
Cached = Callable[[str, Callable[[], Outputs | None]], Outputs | None]


def _before(config: RunConfig, model: nn.Module, splits: dict[str, Split], device: Any, cached: Cached) -> Outputs:
    """What the bare base says to the test split, by the names that the kind of task gives its baselines; none for a
    trial. The base is on the CPU before and after."""
    if config.measure == TRIAL:
        return {}
    test, kind = splits["test"], splits["test"].task.kind
    limit = models.most_tokens(config.model, test.processor, kind.model_class)
    rows = kind.baselines(test.processor, splits["train"].rows, test.rows, config.task, limit)
    if not rows:
        return {}

    def compute() -> Outputs:
        model.to(device)
        outputs = {name: dataclasses.replace(test, rows=chosen).outputs(model).numpy() for name, chosen in rows.items()}
        model.to("cpu")
        return outputs

    return cached(files.UNTRAINED, compute) or {}


def _head_alone(
    config: RunConfig, model: nn.Module, splits: dict[str, Split], device: Any, cached: Cached
) -> Outputs | None:
    """What a head that is fitted alone says to validation and test, in the run that others are compared with; the base
    is on the CPU before and after."""
    if config.measure == TRIAL or not METHODS[config.method.name].is_reference:
        return None

    def compute() -> Outputs | None:
        outputs = fitted_head(model.to(device), models.head_modules(model), splits)
        model.to("cpu")
        return outputs

    return cached(files.HEAD_ALONE, compute)


def _cached(
    config: RunConfig,
    store: Path,
    splits: Mapping[str, Split],
    inputs: Sequence[Any],
    baseline: str,
    compute: Callable[[], Outputs | None],
) -> Outputs | None:
    """What `compute` gives. The store keeps it for the runs with the same inputs and encoded examples, whatever their
    seeds, on the same machine by the same code; a run that is trained again reads it not."""
    machine = [provenance.hardware(), provenance.versions(("scikit-learn", "jiwer")), provenance.code_sha256()]
    digest = hashlib.sha256(repr([baseline, *inputs, *machine]).encode())
    for split in splits.values():
        for part in (*split.rows, split.labels):
            digest.update(pickle.dumps(part))
    name = f"{digest.hexdigest()[:16]}.npz"

    def titled(outputs: Outputs) -> str:  # with a hash, since other numbers than were kept are not believed
        return f"{baseline} {hashlib.sha256(b''.join(array.tobytes() for array in outputs.values())).hexdigest()}"

    with suppress(FileNotFoundError, DamagedRecord):
        ((title, kept),) = files.load_arrays(store / files.CACHE, name).items()
        if not config.force and title == titled(kept):
            return kept
    outputs = compute()
    if outputs is not None:
        files.save_arrays(store / files.CACHE / name, {titled(outputs): outputs})
    return outputs


def _ledger(config: RunConfig, model: nn.Module, split: Split) -> memory.Ledger:
    """What one training step of this process on the largest batch holds; the weights keep their bits (the rate is 0),
    and so do the running means of batch norms. Of a model in shares nothing is known before it has trained."""
    batch = split.largest_batch(config.train.batch_size).mine(split.task.kind.weight).to(device_of(config.train)).inputs
    if distributed.is_spread(model):
        return memory.uncategorized(0, tuple(next(iter(batch.values())).shape))
    optimizer = make_optimizer(model.train(), config.train.optimizer, 0.0, config.train.weight_decay)
    loss_of = _loss(METHODS[config.method.name], split.task)
    running = {key: buffer.clone() for key, buffer in model.named_buffers() if key.endswith(OF_BATCH_NORMS)}
    with global_stream(config.seed, "memory"):
        ledger = memory.record_step(model, optimizer, batch, split.autocast, loss_of).ledger()
    for key, buffer in running.items():
        model.get_buffer(key).copy_(buffer)
    return ledger


def train(run: Prepared, sinks: Sequence[Sink]) -> TrainResult:
    """Train what may change, from the newest checkpoint if there is one."""
    config, split = run.config, run.splits["train"]
    identity = {
        "run_id": run.run_id,
        "versions": provenance.versions(config.method.packages),
        "code": provenance.code_sha256(),
        "kernel": run.kernel,
        "threads": provenance.hardware()["threads"],
    }
    checkpoints = Checkpoints(run.folder, identity, config.checkpoint_seconds, lambda text: say(f"  {text}"))

    def epoch(number: int) -> list[Batch]:
        shuffle = generator(config.seed, f"data-{number}")
        batches = split.batches(config.train.batch_size, shuffle, config.train.length_window)
        return [batch.mine(run.task.kind.weight) for batch in batches]

    budget = config.train
    if run.is_trial and not budget.follows_validation:  # only its last score counts
        budget = dataclasses.replace(budget, validations=min(budget.validations, 1))

    def score_of(validation: dict[str, float]) -> float:
        return oriented(validation[run.task.metric], run.task.higher_is_better)

    trained = training.train(
        run.model, epoch, _loss(run.method, run.task), budget, config.seed,
        lambda: distributed.seen(run.model, run.splits["validation"].score), score_of, sinks, checkpoints,
        partial(run.method.stepped, run.model) if run.method.stepped else None,
    )  # fmt: skip
    if distributed.is_spread(run.model):
        peaks = distributed.of_all(memory.peak_device_bytes() or memory.peak_resident_bytes())
        run.ledger = memory.uncategorized(max(peaks), run.ledger.batch_shape)
    return trained


def _loss(method: Method[Any], task: Task) -> Loss:
    """The loss of the task, with what the method adds to it."""
    loss, penalty = task.kind.loss, method.penalty
    return loss if penalty is None else lambda model, batch: loss(model, batch) + penalty(model)


def _record(
    run: Prepared,
    trained: TrainResult,
    validation: dict[str, float],
    scoring: Scoring | None,
    findings: Findings,
    reference: Path | None,
) -> Record:
    """Write the run's files, and its record last."""
    config, task, folder, settings = run.config, run.task, run.folder, plain(run.config)
    files.save_config(folder, settings)
    files.save_history(folder, trained.history)
    if not run.is_trial:
        exported = run.method.export(run.model, config.method, run.base_name)
        hashes, code = (run.base_sha256, task.data_sha256), provenance.code_sha256()
        lineage = Lineage(run.base_name, run.base_weights, *hashes, code, run.run_id, science(config, *hashes))
        files.save_trained(folder, lineage.in_files(exported), lineage.header())
        files.save_arrays(folder / files.SPECTRA, findings.spectra)
        test = run.splits["test"]
        zeros = {f"{name}/0": without_labels(test.answered(outputs)) for name, outputs in run.zeros.items()}
        files.save_arrays(folder / files.OUTPUTS, {"test": findings.outputs} | findings.cut_outputs | zeros)
    work = (trained.seconds, trained.steps, trained.examples, trained.tokens)
    name, scores = ("validation", validation) if run.is_trial else ("test", findings.scores["test"])
    losses = [row["train/loss"] for row in trained.history]
    result = Result(
        inputs=Inputs(
            run.base_sha256, task.data_sha256, task.sizes, list(task.classes), run.head_sha256, task.left_out
        ),
        reference=reference.name if reference else None,
        parameters=Parameters(**count_parameters(run.model)),
        memory=Memory(
            **dataclasses.asdict(run.ledger),
            process_peak_bytes=memory.peak_resident_bytes(),
            process_peak_covers="run" if run.fresh_peak else "process",
            device_peak_bytes=memory.peak_device_bytes(),
        ),
        time=Time(*work, findings.truncation_seconds, time.monotonic() - run.started + trained.earlier),
        metric=task.metric,
        metrics=_flat({"validation": validation} | findings.scores) | {"train/loss": trained.metrics("train")["loss"]},
        matrices=findings.matrices,
        truncation=findings.truncation,
        files=files.files_of(folder),
        baselines=run.baselines,
        higher_is_better=task.higher_is_better,
        coverage=models.coverage(run.census, run.model),
        comparison=run.comparison,
        collapsed=signs(run.splits[name], scored_on(settings, name), losses, scores[task.metric], run.baselines),
        scoring=scoring,
        probes=_probes(run),
        notes=list(task.notes),
    )
    write_record(folder, new_record(config, run.run_id, "completed", run.kernel, result=result))
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    return read_record(folder)


def _probes(run: Prepared) -> list[Probe]:
    """The leak probes of the run's data. The last ones are kept: the runs of a sweep mostly share them."""
    if run.is_trial or run.task.config.memorise:
        return []
    key = (run.task.data_sha256, repr(run.task.config))
    if key not in _last_probes:
        _last_probes.clear()
        _last_probes[key] = probes_of(run.task)
    return _last_probes[key]


_last_probes: dict[tuple[str, str], list[Probe]] = {}


def _flat(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """
    >>> _flat({"test": {"accuracy": 0.5}})
    {'test/accuracy': 0.5}
    """
    return {f"{split}/{name}": value for split, metrics in scores.items() for name, value in metrics.items()}
