"""The runs that are asked for: each once, references first; and the check of all of them before the first trains."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lorax_lab import models
from lorax_lab.config import SHARD, RunConfig
from lorax_lab.config.identity import run_id
from lorax_lab.console import say
from lorax_lab.data import SOURCES, data_sha256, source_of
from lorax_lab.data.assets import NotFetched
from lorax_lab.errors import ConfigError
from lorax_lab.launch import fastest
from lorax_lab.launch.compose import reference_of
from lorax_lab.launch.room import Read, Sizes
from lorax_lab.launch.runs import Run
from lorax_lab.methods import METHODS
from lorax_lab.record.checkpoints import FOLDER as CHECKPOINTS
from lorax_lab.record.redact import redact
from lorax_lab.tasks import kind_of, load_task
from lorax_lab.tasks.split import check_unlike, encode
from lorax_lab.train import check_machine, plan_steps

LONG, SOME = 128, 64
"""The size of the longest input that is assumed of a task whose data are not here; how many examples
say how many tokens one has."""


def run_of(config: RunConfig) -> Run:
    """The run of a configuration. The hashes of its model and data are part of its id, and the precision that `auto`
    stands for here. It ends in `?` where they may not be fetched.

    Raises:
        ConfigError: a model or data set that cannot be found, or whose name holds a key or password.
    """
    config = _with_least_steps(fastest.settled(config))
    names = f"{Path(config.model).name} {config.task.name}"
    if redact(names) != names:
        shown = "the run's folder is named after task and model, and one of the two holds a key or password"
        raise ConfigError(f"task.name={config.task.name} is not possible: {shown}; for instance task.name=mine")
    try:
        return Run(config, run_id(config, models.model_sha256(config.model), data_sha256(config.task)))
    except NotFetched:
        return Run(config, f"{run_id(config, '', '')[:-10]}?")


def _with_least_steps(config: RunConfig) -> RunConfig:
    """The configuration with as many epochs as make `task.least_steps` where the table is small: one epoch of 400 texts
    leaves full fine-tuning below a linear probe. What is wrong with the data is told by `check`."""
    task, train, least = config.task, config.train, config.task.least_steps
    if least is None or train.max_steps is not None:
        return config
    a_step = train.batch_size * train.gradient_accumulation
    try:
        source = source_of(task)
        if len(source.read(task).train) * train.epochs > 4 * least * a_step:  # enough, whatever is set aside
            return config
        key = (source.sha256(task), repr(task))
        if key not in _trained_on:
            _trained_on[key] = len(load_task(task).train)
    except ConfigError:
        return config
    epochs = math.ceil(least / plan_steps(replace(train, epochs=1), math.ceil(_trained_on[key] / train.batch_size)))
    return replace(config, train=replace(train, epochs=max(train.epochs, epochs)))


_trained_on: dict[tuple[str, str], int] = {}
"""How many training examples a table has, by its hash and the task's settings: to find twins takes seconds."""


def with_reference(run: Run) -> list[Run]:
    """A run after the full fine-tune that it is compared with. A full fine-tune, a trial, and a run with
    `reference=false` are compared with none."""
    config = run.config
    if not config.reference or config.measure == "trial" or METHODS[config.method.name].is_reference:
        return [run]
    reference = run_of(reference_of(config))
    return [reference, replace(run, reference=reference.run_id)]


def each_once(jobs: Sequence[Sequence[Run]]) -> list[Run]:
    """The runs of several jobs in order, each once."""
    return list({run.run_id: run for job in jobs for run in job}.values())


def check(runs: Sequence[Run]) -> Sizes:
    """Refuse what cannot train, before the first run: nothing of the sweep trains then, and nothing is recorded.

    The matrices are known from the model's configuration: no weight is read. Each data set is read once for each model.

    Returns:
        What the models read of their tasks, by model and task (its settings as text).

    Raises:
        ConfigError: a device, precision or kernel that this machine lacks, a target that the model lacks, a rank above
            a matrix's smaller side, weights that are not those of the model's configuration, data that cannot be used.
    """
    for run in runs:
        for path in filter(Path.is_symlink, (run.folder, run.folder / CHECKPOINTS)):
            behind = "a run removes what is old there, and it may be another's"
            raise ConfigError(f"{path} is a link: {behind}; remove the link, or type another runs_dir")
        _check_settings(run.config)
    pairs = {(run.config.model, repr(run.config.task)): run for run in runs}
    sizes = {}
    for pair, run in pairs.items():
        try:
            sizes[pair] = _check_data(run)
        except NotFetched as missing:
            say(f"note: {missing}; the sweep fetches it, and checks it then")
            sizes[pair] = Read(getattr(run.config.task, "max_length", None) or LONG)
    return sizes


def check_together(runs: Sequence[Run], has_launcher: bool = False) -> None:
    """Refuse what several processes cannot train: several runs, a launcher of Hydra's, settings that need one process.

    Raises:
        ConfigError: it says what to type instead.
    """
    if has_launcher:
        raise ConfigError("hydra/launcher is not possible with torchrun, which has started the processes; leave it out")
    if len(runs) > 1:
        full_first = "train the full fine-tune first, or type reference=false"
        instead = full_first if any(run.reference for run in runs) else "start each by itself"
        raise ConfigError(f"{len(runs)} runs are to be trained, and several processes train one; {instead}")
    for config in (run.config for run in runs):
        method, train = METHODS[config.method.name], config.train
        if config.time_limit_seconds is not None:
            raise ConfigError("time_limit_seconds is not possible with torchrun; type timeout 3600 torchrun …")
        if train.parallel == SHARD and not (method.is_reference or method.multiplies_only):
            raise ConfigError(f"train.parallel=shard with method={config.method.name}; type train.parallel=data")
        if train.parallel == SHARD and (train.precision == "fp16" or train.optimizer == "muon"):
            setting = "train.precision=fp16" if train.precision == "fp16" else "train.optimizer=muon"
            raise ConfigError(f"train.parallel=shard with {setting} is not possible; type train.parallel=data")


def _check_settings(config: RunConfig) -> None:
    """What the machine, and the shapes of the model's matrices, say of a run's settings."""
    check_machine(config.train)
    fastest.kernel_of(config.train)  # where it is tried, it is tried here, so that all workers have one answer
    model_class, method = kind_of(config.task.kind).model_class, METHODS[config.method.name]
    bare = models.without_weights(config.model, model_class)
    if config.train.checkpointing and not getattr(bare, "supports_gradient_checkpointing", False):
        unknown = f"transformers does not know the layers of model={config.model}"
        raise ConfigError(f"train.checkpointing=true is not possible: {unknown}; type train.checkpointing=false")
    shapes = models.matrix_shapes(config.model, model_class)
    targets = models.choose(list(shapes), config.method.target_modules)
    method.check(config.method, config.rank, {name: shapes[name] for name in targets})
    method.check_base(config.method, bare, targets)
    if method.trains_body:
        return
    if not config.train.head:
        raise ConfigError(f"train.head=false with method={config.method.name} trains nothing; type train.head=true")
    if not models.head_modules(bare):
        pretrained = f"model={config.model} has no head of its own for task.kind={config.task.kind}"
        raise ConfigError(f"method={config.method.name} is not possible: {pretrained}; type method=lora")


def _check_data(run: Run) -> Read:
    """What the model reads of the run's task; a ConfigError names an example that it cannot read."""
    model, settings = run.config.model, run.config.task
    task = load_task(settings)
    model_class, processor = task.kind.model_class, models.load_processor(model, task.kind.processor_class)
    has_head = models.check_base(model, task.head, model_class, values=True)
    splits = encode(task, processor, models.model_sha256(model))
    sizes = [size for split in splits.values() for size in split.sizes]
    longest = max(sizes)
    limit = models.most_tokens(model, processor, model_class)
    if limit is not None and longest > limit:
        many = f"{sum(size > limit for size in sizes)} of {len(sizes)} inputs of task={settings.name} are too long"
        reason = f"{many}: the longest has {longest} tokens, and model={model} reads {limit}"
        instead = f"type task.max_length={limit}" if hasattr(settings, "max_length") else "leave such rows out"
        raise ConfigError(f"{reason}; {instead}")
    rows = [row for split in splits.values() for row in split.rows]
    size = models.vocabulary(model, model_class)
    token = max((max(row.get("input_ids") or [0]) for row in rows), default=0)
    if size is not None and token >= size:
        beyond = f"its tokenizer makes token {token} of task={settings.name}, and its embedding has {size} rows"
        raise ConfigError(f"model={model}: {beyond}; save the tokenizer that belongs to the model beside it")
    padding = getattr(models.tokenizer_of(processor), "pad_token_id", None)
    if size is not None and padding is not None and padding >= size:
        beyond = f"its tokenizer pads with token {padding}, and its embedding has {size} rows"
        raise ConfigError(f"model={model}: {beyond}; set pad_token in its tokenizer_config.json to one that has a row")
    task.kind.require_readable(models.resolve(model), processor, rows, settings)
    check_unlike(splits["train"])
    notes = [*task.notes, *task.kind.notes(rows, settings)]
    if task.left_out and not SOURCES[settings.source].is_built_in:
        counts = ", ".join(f"{count} {reason}" for reason, count in task.left_out.items())
        notes.append(f"rows left out: {counts} (docs/tasks.md)")
    for note in notes:
        say(f"note: task={settings.name}: {note}")
    if has_head:
        say(f"note: model={model}: the classifier starts from the base's own head, and none is drawn at random")
    first = list(range(min(SOME, len(splits["train"].rows))))
    return Read(longest, len(splits["train"].rows), splits["train"].batch(first).tokens / len(first))
