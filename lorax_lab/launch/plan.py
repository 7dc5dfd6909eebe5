"""The runs that a command line asks for: the whole grid, each run once, references first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from lorax_lab.config import RunConfig
from lorax_lab.config.identity import run_id
from lorax_lab.config.overrides import expand
from lorax_lab.errors import ConfigError
from lorax_lab.launch import precision
from lorax_lab.launch.compose import compose, spell_out
from lorax_lab.launch.kernel import check_dropout, check_kernel
from lorax_lab.launch.references import reference_overrides, wants_reference

if TYPE_CHECKING:
    from lorax_lab.tasks import Task

LISTED = 20
"""How many labels of a head a note names."""


@dataclass(frozen=True)
class Run:
    """A planned run: its configuration, and where its record is or will be."""

    config: RunConfig
    run_id: str
    reference: str | None = None
    """Run id of the full fine-tune that the run is compared with."""
    data_sha256: str | None = None
    """Hash of the data when the run was planned."""

    @property
    def runs_dir(self) -> Path:
        """Where all records of the sweep are."""
        return Path(self.config.runs_dir)

    @property
    def folder(self) -> Path:
        """`<runs_dir>/<run_id>`."""
        return self.runs_dir / self.run_id

    @property
    def title(self) -> str:
        """`lora r=8 seed=1`; for a trial also the learning rate that it tries."""
        rank = "" if self.config.rank is None else f" r={self.config.rank}"
        rate = f" learning rate {self.config.train.learning_rate:g}" if self.config.measure == "trial" else ""
        return f"{self.config.method.name}{rank} seed={self.config.seed}{rate}"


def run_of(config: RunConfig) -> Run:
    """The run of a configuration. The hashes of its model and data are part of its id, and the precision that `auto`
    stands for here.

    Raises:
        ConfigError: a model or data set that cannot be found.
    """
    from lorax_lab.data import data_sha256
    from lorax_lab.models import model_sha256

    config = precision.settled(config)
    data = data_sha256(config.task)
    return Run(config, run_id(config, model_sha256(config.model), data), data_sha256=data)


def with_reference(overrides: list[str], run_for: Callable[[tuple[str, ...]], Run]) -> list[Run]:
    """One job's runs in order: the full fine-tune it is compared with, where it wants one, and the run."""
    run = run_for(tuple(overrides))
    if not wants_reference(run.config):
        return [run]
    reference = run_for(tuple(reference_overrides(overrides)))
    return [reference, replace(run, reference=reference.run_id)]


def plan(overrides: list[str], multirun: bool) -> list[Run]:
    """Every run of the overrides as they are typed, each once, references first where they are needed.

    Raises:
        ConfigError: any bad setting anywhere in the grid, before anything is trained; what the model's matrices, the
            machine and the data allow is the subject of `check`.
    """
    return grid(spell_out(overrides), multirun)


def grid(overrides: list[str], multirun: bool) -> list[Run]:
    """`plan` of overrides that are spelled out. It is the one place where a sweep is expanded.

    Raises:
        ConfigError: any bad setting anywhere in the grid, before anything is trained.
    """
    jobs = expand(overrides)
    if len(jobs) > 1 and not multirun:
        lists = " ".join(override.lstrip("+") for override in overrides if len(expand([override])) > 1)
        raise ConfigError(f"{lists} is a sweep of {len(jobs)} runs; type -m at the end to run it")
    run_for = lru_cache(maxsize=None)(lambda overrides: run_of(compose(list(overrides))))
    runs = [run for job in jobs for run in with_reference(job, run_for)]
    return list({run.run_id: run for run in runs}.values())


def check(runs: list[Run]) -> dict[tuple[str, str], int]:
    """Refuse what cannot train, before the first run: nothing of the sweep trains then, and nothing is recorded.

    The matrices are known from the model's configuration: no weight is read. Each data set is read once for each model.

    Returns:
        The size of the longest input, by model and task (its settings as text).

    Raises:
        ConfigError: a device, precision or kernel that this machine lacks, a target that the model lacks, a rank above
            a matrix's smaller side, weights that are not those of the model's configuration, data that cannot be used.
    """
    from lorax_lab.console import console
    from lorax_lab.methods import METHODS
    from lorax_lab.models import (
        check_base,
        choose,
        head_modules,
        load_processor,
        matrix_shapes,
        model_sha256,
        most_tokens,
        resolve,
        vocabulary,
    )
    from lorax_lab.models.savings import can_checkpoint
    from lorax_lab.models.skeleton import without_weights
    from lorax_lab.tasks import kind_of, load_task
    from lorax_lab.tasks.split import alike, encode
    from lorax_lab.train import check_machine

    for config in [run.config for run in runs]:
        check_machine(config.train)
        check_kernel(config.train)
        check_dropout(config.train)
        model_class = kind_of(config.task.kind).model_class
        if config.train.checkpointing and not can_checkpoint(without_weights(config.model, model_class)):
            unknown = f"transformers does not know the layers of model={config.model}"
            raise ConfigError(f"train.checkpointing=true is not possible: {unknown}; type train.checkpointing=false")
        shapes = matrix_shapes(config.model, model_class)
        targets = choose(list(shapes), config.method.target_modules)
        method = METHODS[config.method.name]
        method.check(config.method, config.rank, {name: shapes[name] for name in targets})
        if not method.trains_body:
            _check_head(config, head_modules(without_weights(config.model, model_class)))
    for note in precision.notes(run.config for run in runs):
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    pairs = {(run.config.model, repr(run.config.task)): run for run in runs}
    sizes = {}
    for (model, of_task), run in pairs.items():
        settings = run.config.task
        task = load_task(settings, run.data_sha256)
        processor = load_processor(model, task.kind.processor_class)
        own_head = check_base(model, task.head, task.kind.model_class, values=True)
        splits = encode(task, processor, model_sha256(model))
        longest = sizes[model, of_task] = max(size for split in splits.values() for size in split.sizes)
        limit = most_tokens(model, processor, task.kind.model_class)
        if limit is not None and longest > limit:
            reason = f"the longest input of task={settings.name} has {longest} tokens, and model={model} reads {limit}"
            instead = f"type task.max_length={limit}" if hasattr(settings, "max_length") else "leave such rows out"
            raise ConfigError(f"{reason}; {instead}")
        rows = [row for split in splits.values() for row in split.rows]
        known = vocabulary(model, task.kind.model_class)
        largest = max((token for row in rows for token in row.get("input_ids", ())), default=0)
        if known is not None and largest >= known:
            beyond = f"its tokenizer makes token {largest} of task={settings.name}, and its embedding has {known} rows"
            raise ConfigError(f"model={model}: {beyond}; save the tokenizer that belongs to the model beside it")
        task.kind.require_readable(resolve(model), processor, rows, settings)
        for note in [*task.notes, *_left_out(task), *task.kind.notes(rows, settings), *alike(splits["train"], limit)]:
            console.print(f"note: task={settings.name}: {note}", soft_wrap=True, markup=False)
        if own_head:
            console.print(f"note: model={model}: {_of_head(own_head, task)}", soft_wrap=True, markup=False)
    return sizes


def _check_head(config: RunConfig, heads: list[str]) -> None:
    """Refuse a run that trains nothing: its method leaves the body as it is, and there is no head that may change."""
    if not config.train.head:
        raise ConfigError(f"train.head=false with method={config.method.name} trains nothing; type train.head=true")
    if not heads:
        pretrained = f"model={config.model} has no head of its own for task.kind={config.task.kind}"
        raise ConfigError(f"method={config.method.name} is not possible: {pretrained}; type method=lora")


def _of_head(labels: list[str], task: Task) -> str:
    """That the classifier starts from a head that the base has, with its labels beside those of the task."""
    from lorax_lab.data.table import printable

    own, classes = (", ".join(map(printable, names[:LISTED])) for names in (labels, task.classes))
    beside = f"; the task's, in their order: {classes}" if classes else ""
    return f"the classifier starts from the base's own head (labels {own}{beside}), and none is drawn at random"


def _left_out(task: Task) -> list[str]:
    """How many rows of a person's own data are in no split since they cannot be; what is built in is known."""
    from lorax_lab.data import SOURCES

    counts = [f"{count} {reason}" for reason, count in task.left_out.items()]
    if SOURCES[task.config.source].is_built_in or not counts:
        return []
    return [f"rows left out: {', '.join(counts)} (docs/tasks.md)"]
