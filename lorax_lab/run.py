"""The entry: `python -m lorax_lab.run rank=4,8,16 -m`. From a configuration to a recorded run, step by step."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.config import RunConfig
from lorax_lab.sweep import launch

if TYPE_CHECKING:
    from torch import nn

    from lorax_lab.models import Base
    from lorax_lab.tasks import Task
    from lorax_lab.tasks.encoded import Encoded


def execute(config: RunConfig, run_id: str, reference: Path | None, group: str) -> dict[str, Any]:
    """One run, from its configuration to its record.

    Args:
        reference: folder of the completed full fine-tune that a LoRA run is compared with.
        group: the name under which W&B shows the sweep.

    Returns:
        The completed record, as written.

    Raises:
        ConfigError: an input that cannot be used. Diverged: a loss that is not finite.
    """
    import torch

    from lorax_lab import functional, matrices, memory, record, tracking
    from lorax_lab.adapters import METHODS, count_parameters, full
    from lorax_lab.console import TrainBar, bar
    from lorax_lab.models import base_weights, load_base, select
    from lorax_lab.provenance import provenance
    from lorax_lab.streams import generator, global_stream
    from lorax_lab.tasks import load_task
    from lorax_lab.train import make_accelerator, make_optimizer, train

    started = time.time()
    can_reset_peak = memory.reset_peak()
    method, folder = METHODS[config.method.name], Path(config.runs_dir) / run_id

    # data and base
    task = load_task(config.task)
    base = load_base(config.model, task.num_labels, task.kind == "regression", config.seed)
    splits = _encode(base, task, config.task.max_length)
    names = select(base.model, config.method.target_modules)
    original = base_weights(base.model, names)
    full_update = full.stored_updates(reference / "model.safetensors", base.model, original) if reference else None

    # what may change, and what one step of it takes
    model: nn.Module = base.model
    method.attach(model, names, config.method, config.rank, generator(config.seed, "adapter"))
    parameters = count_parameters(model)
    accelerator = make_accelerator(config.train)
    model.to(accelerator.device)
    largest = splits["train"].largest_batch(config.train.batch_size)
    with global_stream(config.seed, "memory"):
        model.train()
        ledger = memory.measure_step(model, make_optimizer(model, config.train, 0.0), largest, accelerator)

    # train
    def validate(candidate: nn.Module = model) -> dict[str, float]:
        return splits["validation"].score(candidate, task)

    with TrainBar(run_id, f"validation/{task.metric}") as on_step:
        result = train(
            model,
            lambda epoch: splits["train"].batches(config.train.batch_size, generator(config.seed, f"data-{epoch}")),
            config.train,
            config.seed,
            accelerator,
            validate,
            on_step,
        )

    # measure the update, cut it, score
    updates = method.updates(model, original)
    directions = matrices.decompose(updates)
    table = matrices.measure(updates, directions, original, full_update)
    rows = None
    if config.method.name == "full":
        with bar("cutting the update") as on_score:
            rows = functional.functional_rank(model, original, directions, validate, on_score)
    metrics = {f"validation/{key}": value for key, value in validate().items()}
    metrics |= {f"test/{key}": value for key, value in splits["test"].score(model, task).items()}
    metrics |= {"train/loss": result.history[-1]["train/loss"]}

    # record, then show
    saved_spectra = matrices.to_save(directions)
    record.save_config(folder, dataclasses.asdict(config))
    record.save_trained(folder, method.export(model, config.method, base.name))
    record.save_spectra(folder, saved_spectra)
    record.save_history(folder, result.history)
    content = provenance(config, run_id, "completed") | {
        "inputs": _inputs(config, task),
        "reference": reference.name if reference else None,
        "parameters": parameters,
        "memory": {
            "peak_bytes": ledger.peak_bytes,
            "by_category": ledger.by_category,
            "phase": ledger.phase,
            "batch_shape": list(largest["input_ids"].shape),
            "process_peak_bytes": memory.peak_resident_bytes(),
            "process_peak_covers": "run" if can_reset_peak else "process",
            "device_peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        },
        "time": {
            "train_seconds": result.seconds,
            "total_seconds": time.time() - started,
            "steps": result.steps,
            "examples": result.examples,
            "tokens": result.tokens,
        },
        "metric": task.metric,
        "metrics": metrics,
        "summary": matrices.summarise(table),
        "matrices": table,
        "functional": rows,
    }
    record.write_record(folder, content)
    tracking.publish(
        config.tracking,
        Path(config.runs_dir),
        record.read_record(folder),
        result.history,
        saved_spectra,
        group,
    )
    return content


def _encode(base: Base, task: Task, max_length: int) -> dict[str, Encoded]:
    from lorax_lab.tasks.encoded import Encoded

    splits = {"train": task.train, "validation": task.validation, "test": task.test}
    return {name: Encoded.of(base.tokenizer, rows, max_length, task.kind) for name, rows in splits.items()}


def _inputs(config: RunConfig, task: Task) -> dict[str, Any]:
    from lorax_lab.models import model_sha256

    sizes = {"train": len(task.train), "validation": len(task.validation), "test": len(task.test)}
    return {
        "model_sha256": model_sha256(config.model),
        "data_sha256": task.data_sha256,
        "examples": sizes,
        "classes": list(task.classes),
    }


def main() -> None:
    """The console script `lorax-lab`, the same as `python -m lorax_lab.run`."""
    sys.exit(launch(execute))


if __name__ == "__main__":
    main()
