"""How many runs of a sweep have room side by side, and which part of the machine each gets: a GPU, or one thread and
more where there are more cores than runs. The sum of what they take, as predicted, is kept below the free memory."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from lorax_lab.config import AUTO, RunConfig
from lorax_lab.errors import ConfigError
from lorax_lab.launch.fastest import on_a_processor
from lorax_lab.launch.runs import Run
from lorax_lab.launch.workers import Variables
from lorax_lab.memory.free import free_bytes, size
from lorax_lab.memory.predict import Step
from lorax_lab.methods import METHODS
from lorax_lab.models import choose, matrix_shapes, resolve
from lorax_lab.models.skeleton import without_weights
from lorax_lab.tasks import kind_of

LIBRARIES = 750 * 2**20
"""Bytes that a process holds beside its model: the interpreter, the libraries, the data. 670 to 760 MiB on Linux."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which a process learns how many threads its products of matrices may take."""


@dataclass(frozen=True)
class Read:
    """What a model reads of a task: the size of the longest input, and of training how many examples, of so many
    tokens each; none where the data are not here."""

    longest: int
    examples: int = 0
    tokens: float = 0.0


Sizes = Mapping[tuple[str, str], Read]
"""By model and task (its settings as text), as `plan.check` returns them."""


def shares(runs: Sequence[Run], planned: int, sizes: Sizes) -> list[Variables]:
    """The environment of each worker; one without variables where a single worker has all of the machine.

    Args:
        planned: how many runs the sweep has, also recorded ones: a run that is tried again has as many threads as
            before, and so goes on from its checkpoint.

    Raises:
        ConfigError: more workers than have room, or than there are GPUs.
    """
    if not runs:
        return [{}]
    setting, cores = runs[0].config.workers, torch.get_num_threads()
    wanted = planned if setting == AUTO else int(setting)
    on_cores = all(on_a_processor(run.config.train) for run in runs)
    if on_cores:
        wanted = min(cores, wanted) if setting == AUTO else wanted
        fit, takes = 1, ""
        if wanted > 1:  # each takes as much as the largest
            largest, free = max(needed(run, sizes) for run in runs), round(0.9 * free_bytes())
            fit, takes = free // largest, f"each takes about {size(largest)}, and {size(free)} are free"
    else:
        fit = torch.cuda.device_count() if torch.cuda.is_available() else 1  # another accelerator counts as one GPU
        takes = f"each takes a GPU, and there are {fit}"
    if setting != AUTO and wanted > fit:
        raise ConfigError(f"workers={setting} is not possible: {takes}; type workers={max(fit, 1)}")
    workers = min(wanted, fit)
    if workers < 2:
        return [{}]
    if on_cores:
        return [dict.fromkeys(THREADS, str(max(cores // workers, 1)))] * min(workers, len(runs))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(number) for number in range(fit)]
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names[: min(workers, len(runs))]]


def shares_in_words(shares: Sequence[Variables]) -> list[str]:
    """A line such as `runs side by side: 2, threads of each: 1`; none where one worker has all of the machine."""
    if not shares or not shares[0]:
        return []
    part = f"threads of each: {shares[0][THREADS[0]]}" if THREADS[0] in shares[0] else "each with a GPU"
    return [f"runs side by side: {len(shares)}, {part} (workers=1: one after the other, with all of the machine)"]


def needed(run: Run, sizes: Sizes) -> int:
    """Bytes that a process takes which trains and measures the run, predicted: the step, or the measuring of its
    update in fp64, whichever takes more."""
    config = run.config
    model_class = kind_of(config.task.kind).model_class
    matrices = adapted(config)
    weights = 4 * sum(p.numel() for p in without_weights(config.model, model_class).parameters())
    method = METHODS[config.method.name]
    is_full = method.is_reference
    as_full = is_full or method.steps_as_full or getattr(config.method, "others", False)
    step = Step(
        model=str(resolve(config.model)), rank=None if as_full else config.rank or 1,
        batch=config.train.batch_size, sequence=sizes[config.model, repr(config.task)].longest,
        optimizer=config.train.optimizer, precision="fp32" if config.train.precision == "fp32" else "bf16",
        attention="sdpa", checkpointing=False, head="lm" if "LM" in model_class else "classifier",
        target_modules="all-linear",
    )  # fmt: skip
    peak = _peak(step) or _peak(replace(step, sequence=None))  # that of images
    measuring = weights + matrices * (6 * 8 if is_full else 8)
    return LIBRARIES + 4 * matrices + max(peak or (4 if is_full else 2) * weights, measuring)


def adapted(config: RunConfig) -> int:
    """Parameters of the matrices that a run's method adapts."""
    shapes = matrix_shapes(config.model, kind_of(config.task.kind).model_class)
    return sum(shapes[name][0] * shapes[name][1] for name in choose(list(shapes), config.method.target_modules))


@lru_cache(maxsize=256)
def _peak(step: Step) -> int | None:
    """Bytes at the peak of a training step, as `lorax_lab.memory` predicts it; None for what it does not know."""
    with suppress(ConfigError):
        return step.predict().ledger.peak_bytes
    return None
