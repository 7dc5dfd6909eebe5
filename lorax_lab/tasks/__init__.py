"""What is learned: examples in three splits, fixed by the data and `task.split_seed`, with their score.

A new kind of task is one module here with a subclass of `Kind`, its line in `KINDS`, and a file in `conf/kind/`.
"""

import numpy as np

from lorax_lab.config import TaskConfig
from lorax_lab.config.checks import require_choice
from lorax_lab.data import Pools, source_of, under_rules
from lorax_lab.data.leaks import notes_of, require_learnable
from lorax_lab.data.near_duplicates import grouped
from lorax_lab.data.splits import split as split_pools
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.tasks.classification import Classification
from lorax_lab.tasks.image_classification import ImageClassification
from lorax_lab.tasks.kind import Kind, Task
from lorax_lab.tasks.language_modeling import LanguageModeling
from lorax_lab.tasks.regression import Regression
from lorax_lab.tasks.speech_recognition import SpeechRecognition

KINDS: dict[str, Kind] = {
    "classification": Classification(),
    "regression": Regression(),
    "language_modeling": LanguageModeling(),
    "image_classification": ImageClassification(),
    "speech_recognition": SpeechRecognition(),
}


UNGROUPED_NOTE = "near duplicates were not looked for, and may be in several splits: task.group_near_duplicates=false"
"""What console and record say of data that are not built in where that is asked for."""


def kind_of(name: str) -> Kind:
    """The kind of task that `task.kind` names; a ConfigError lists those that there are."""
    require_choice("task.kind", name, tuple(KINDS))
    return KINDS[name]


def check(config: TaskConfig) -> None:
    """Whether source, kind and metric go together; nothing is read.

    Raises:
        ConfigError: an unknown source or metric; a key that is ignored or missing; examples that the kind cannot read.
    """
    source_of(config)
    _primary_metric(config)


def load_task(config: TaskConfig) -> Task:
    """The examples of the three splits: no content in two of them, no group in two of them.

    Test is taken first, then validation, then train, so that the number of training examples changes neither
    of the others, and fewer training examples are a part of more. With `task.memorise` the three are the same examples.

    Raises:
        ConfigError: as `check`; data that cannot be read, change meanwhile or are too small, or whose texts are the
            labels.
    """
    source, metric = source_of(config), _primary_metric(config)
    sha256 = source.sha256(config)
    pools = source.read(config)
    if source.sha256(config) != sha256:
        raise ConfigError(f"task.path={config.path} changed while it was read; type the same command again")
    _require_variety(pools, next(iter(config.inputs)))
    of_near_duplicates = ""
    if config.group_near_duplicates and not config.memorise:
        pools, of_near_duplicates = grouped(pools)
    elif not config.memorise and not source.is_built_in:
        of_near_duplicates = UNGROUPED_NOTE
    splits, dropped = split_pools(pools, config, sha256)
    require_learnable(pools, splits, config)
    kind, notes = KINDS[config.kind], tuple(filter(None, (of_near_duplicates, *notes_of(pools, splits, config))))
    return Task(config, kind, pools.classes, metric, *splits, under_rules(sha256, config), dropped, notes)


def is_higher_better(config: TaskConfig) -> bool:
    """Of the primary score."""
    return kind_of(config.kind).metrics[_primary_metric(config)].higher_is_better


def _primary_metric(config: TaskConfig) -> str:
    kind = kind_of(config.kind)
    assert type(config) is kind.config, f"settings of task.kind={config.kind} are {kind.config}, not {type(config)}"
    allowed = tuple(kind.metrics)
    if config.metric is not None and config.metric not in allowed:
        not_possible = f"task.metric={config.metric} is not possible with task.kind={config.kind}"
        raise ConfigError(f"{not_possible}: {suggest(config.metric, allowed)}")
    return config.metric or allowed[0]


def _require_variety(pools: Pools, needed: str) -> None:
    """Something can be learned: labels that differ, also in fp32, in which a model learns numbers."""
    if not pools.train:
        raise ConfigError(f"{pools.where} has no rows with {needed}; check task.path and task.{needed}")
    labels = {np.float32(e.label) if isinstance(e.label, float) else e.label for e in pools.train}
    if len(labels) < 2:
        label = next(iter(labels))
        only = repr(pools.classes[int(label)]) if pools.classes else label
        raise ConfigError(f"{pools.where} has one label only ({only}): there is nothing to learn; check task.label")
